"""Checkpoints in a real S3 server: a job is killed at named points, or loses its server, and its output is that of a run in which nothing happened."""
import json
import os
import random
import subprocess

import pytest

import servers
from conftest import BINARY

ROWS = 3000


@pytest.fixture(scope="module")
def s3():
    server = servers.s3()
    yield server
    server.end()


def topology(server, prefix, tmp, rng):
    """Keeps the first row of each key; the expected rows by a definition of its own."""
    rows = [{"u": rng.randrange(ROWS), "n": i} for i in range(ROWS)]
    (tmp / "in.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    job = {
        "name": prefix + "job",
        "run_env": {"state_dir": "state", "checkpoint": {"dir": f"s3://jobs/{prefix}", "interval": "20ms", "s3": {
            "endpoint": f"http://{server.address}", "access_key": servers.S3_KEY, "secret_key": servers.S3_SECRET}}},
        "streams": {"in": {"config": {
            "source": {"type": "File", "config": {"path": "in.jsonl"}},
            "operates": [{"type": "StringToMap", "config": {"format": "json", "fields": {"u": "bigint", "n": "bigint"}}}]}}},
        "transforms": [{"type": "Dedup", "name": "once", "config": {"keys": ["u"]}}],
        "sink": [{"type": "File", "name": "out", "config": {"path": "out.jsonl", "format": "json"}}]}
    (tmp / "job.yaml").write_text(json.dumps(job))
    first = {}
    for r in rows:
        first.setdefault(r["u"], r["n"])
    return sorted(first.items())


def run(tmp, *args, **env):
    return subprocess.run([BINARY, "run", "job.yaml", "--quiet", *args], cwd=tmp, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)


def written(tmp):
    out = tmp / "out.jsonl"
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return sorted((r["u"], r["n"]) for r in rows)


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_named_points_nothing_is_lost_or_twice(s3, prefix, tmp_path, seed):
    rng = random.Random(seed)
    expected = topology(s3, prefix, tmp_path, rng)
    points = ["outbox-synced", "before-slot", "slot-linked", "before-apply", "txn-committed", "applied-unrecorded", "restore-half", "fenced"]
    kills = 0
    for point in rng.sample(points, 4):
        limit = str(rng.randrange(1, ROWS // 2))
        ended = run(tmp_path, "--limit", limit, "--workers", str(rng.choice([1, 2])), MILLRACE_POINT=f"{point}:1:kill")
        assert ended.returncode in (0, -9), ended.stderr
        kills += ended.returncode == -9
    assert kills > 0
    ended = run(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert written(tmp_path) == expected
    verified = subprocess.run([BINARY, "checkpoints", "verify", "job.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_server_that_was_away_is_said_and_no_secret_with_it(s3, prefix, tmp_path):
    expected = topology(s3, prefix, tmp_path, random.Random(7))
    text = (tmp_path / "job.yaml").read_text()
    (tmp_path / "job.yaml").write_text(text.replace(servers.S3_SECRET, "sesame"))
    ended = run(tmp_path)
    assert ended.returncode == 3 and "check the access key" in ended.stderr and "sesame" not in ended.stderr, ended.stderr
    (tmp_path / "job.yaml").write_text(text)
    assert run(tmp_path, "--limit", "500").returncode == 0
    s3.kill()
    s3.start()
    assert run(tmp_path).returncode == 0
    assert written(tmp_path) == expected
