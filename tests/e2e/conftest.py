import json
import os
import pathlib
import subprocess
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import servers

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = pathlib.Path(os.environ.get("MILLRACE", TARGET / "release" / "millrace"))


def pytest_addoption(parser):
    parser.addoption("--chaos", action="store_true", help="the long form of the fault tests: more seeds, longer outages")
    parser.addoption("--seeds", type=int, default=5, help="how many seeds the long form takes")


@pytest.fixture(scope="session")
def chaos(request):
    """How many seeds of the long form; 0: the short one."""
    return request.config.getoption("--seeds") if request.config.getoption("--chaos") else 0


@pytest.fixture(scope="session")
def kafka():
    server = servers.kafka()
    yield server
    server.end()


@pytest.fixture(scope="session")
def hbase():
    server = servers.hbase()
    yield server
    server.end()


@pytest.fixture(scope="session")
def redis_server():
    server = servers.redis()
    yield server
    server.end()


@pytest.fixture(scope="session")
def clickhouse():
    server = servers.clickhouse()
    yield server
    server.end()


@pytest.fixture
def prefix():
    """Sets one test's topics and tables apart from another's."""
    return f"t{uuid.uuid4().hex[:8]}-"


class Run:
    """A finished run: exit code, output, and the summary file as a dict."""

    def __init__(self, code, out, err, summary):
        self.code, self.out, self.err, self.summary = code, out, err, summary


class Job:
    """The executable, started on a topology."""

    def __init__(self, tmp, topology, env=None, args=()):
        self.summary_file = tmp / f"summary-{uuid.uuid4().hex[:6]}.json"
        self.err_file = tmp / f"err-{uuid.uuid4().hex[:6]}.txt"
        self.out_file = self.err_file.with_name(self.err_file.name.replace("err", "out"))
        full = dict(os.environ, STATE=str(tmp / "state"), OUT=str(tmp / "out"), **(env or {}))
        self.process = subprocess.Popen(
            [BINARY, "cluster" if "--processes" in args else "run", str(topology), "--summary", str(self.summary_file), *map(str, args)],
            env=full, stdout=open(self.out_file, "w"), stderr=open(self.err_file, "w"), cwd=tmp)

    def wait(self, timeout=120):
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running after {timeout} s:\n{self.err_file.read_text()[-4000:]}")
        summary = json.loads(self.summary_file.read_text()) if self.summary_file.exists() else None
        return Run(self.process.returncode, self.out_file.read_text(), self.err_file.read_text(), summary)

    def stop(self, timeout=60):
        self.process.terminate()
        return self.wait(timeout)


@pytest.fixture
def millrace(tmp_path):
    """Runs a topology to its end, or starts it with `wait=False`."""
    jobs = []

    def start(topology, env=None, args=(), wait=True, timeout=120):
        job = Job(tmp_path, topology, env, args)
        jobs.append(job)
        return job.wait(timeout) if wait else job

    yield start
    for job in jobs:
        if job.process.poll() is None:
            job.process.kill()
            job.process.wait()
