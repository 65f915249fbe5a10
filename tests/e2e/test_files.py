"""Files and the terminal, through YAML and the executable: following, rolling, compression, formats; generated records; a wash. Needs no server."""
import base64
import collections
import gzip
import hashlib
import io
import json
import os
import re
import time

import pytest

from jobs import read, write_job

RUN = {"time_characteristic": "ProcessingTime"}


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


def job(tmp, source, sink, operates=()):
    return write_job(tmp, {"run_env": dict(RUN), "streams": {"s": {"config": {"source": source, "operates": list(operates)}}}, "sink": [sink]})


def inline(rows):
    return {"type": "Inline", "config": {"rows": rows}}


# --- following ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["rename", "copytruncate"])
@pytest.mark.parametrize("workers", [1, 2])
def test_following_rotated_files(millrace, tmp_path, way, workers):
    """Three rotations, lines in halves and a second file that comes later: every line once, each file's in order."""
    logs = tmp_path / "logs"
    logs.mkdir()
    log = logs / "app.log"
    source = {"type": "File", "config": {"path": "logs/*.log", "mode": "follow", "start": "beginning", "scan_interval": "50ms", "rotate_wait": "200ms"}}
    sink = {"type": "File", "config": {"path": "out/all.txt", "format": "text", "template": "{{_value}}"}}
    out = tmp_path / "out/all.txt"
    log.write_text("")
    running = millrace(job(tmp_path, source, sink), args=("--workers", workers), wait=False)
    want = []

    def lines():
        return out.read_text().splitlines() if out.exists() else []

    def add(path, texts):
        want.extend(texts)
        with open(path, "a") as f:
            for t in texts:
                f.write(t[:3])
                f.flush()
                f.write(t[3:] + "\n")

    for turn in range(4):
        add(log, [f"a{turn} line {i}" for i in range(200 + turn)])
        if turn == 1:
            add(logs / "other.log", [f"b line {i}" for i in range(50)])
        until(lambda: len(lines()) == len(want))
        if turn < 3:
            old = logs / f"app.log-2024010{turn + 1}"
            if way == "rename":
                log.rename(old)
                log.write_text("")
            else:
                old.write_bytes(log.read_bytes())
                os.truncate(log, 0)
    run = running.stop()
    assert run.code == 0, run.err
    assert collections.Counter(lines()) == collections.Counter(want)
    assert [t for t in lines() if t[0] == "a"] == [t for t in want if t[0] == "a"]
    assert (run.summary["in"], run.summary["rejected"], run.summary["lost"]) == (len(want), 0, 0)


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.jsonl.zst"])
def test_a_damaged_file_is_a_dead_letter(millrace, tmp_path, name):
    """Rows before the damage and those of other files come out; the damage is told once, with its place."""
    rows = [{"n": i} for i in range(5000)]
    sink = {"type": "File", "config": {"path": name}}
    assert millrace(job(tmp_path, inline(rows), sink)).code == 0
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:-20])
    (tmp_path / "a.jsonl").write_text('{"n":-1}\n')
    (tmp_path / "c.jsonl").write_text('{"n":-2}\n')
    run = millrace(job(tmp_path, {"type": "File", "config": {"path": "*.jsonl*"}}, {"type": "File", "config": {"path": "out/n.jsonl"}},
                       [{"type": "StringToMap", "config": {"fields": {"n": "bigint"}}}]))
    assert run.code == 0, run.err
    got = [r["n"] for r in read(tmp_path / "out/n.jsonl")]
    good = [n for n in got if n >= 0]
    assert sorted(n for n in got if n < 0) == [-2, -1] and good == list(range(len(good)))
    [dead] = read(tmp_path / "out/dead.jsonl")
    assert dead["reason"] == "damaged-file" and dead["partition"] == name and name in dead["message"]
    assert dead["offset"] == sum(len(json.dumps(r, separators=(",", ":"))) + 1 for r in rows[:len(good)])
    assert run.summary["rejected"] == 1 and run.summary["in"] == len(got) + 1


# --- what the File sink writes --------------------------------------------------------------------------------------------------------


def unpacked(path):
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data).decode()
    if path.suffix == ".zst":
        zstandard = pytest.importorskip("zstandard")
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read().decode()
    return data.decode()


@pytest.mark.parametrize("end", ["", ".gz", ".zst"])
def test_rolling_by_size(millrace, tmp_path, end):
    source = {"type": "Generator", "config": {"profile": "ad_clicks", "count": 20_000}}
    sink = {"type": "File", "config": {"path": f"out/c.txt{end}", "format": "text", "template": "{{_value}}", "roll": {"size": "300KiB"}}}
    run = millrace(job(tmp_path, source, sink))
    assert run.code == 0, run.err
    files = sorted((tmp_path / "out").glob("c-*"))
    assert [f.name for f in files] == [f"c-{i:05}.txt{end}" for i in range(len(files))] and len(files) >= 2
    texts = [unpacked(f) for f in files]
    assert all(300 << 10 <= len(t) <= 600 << 10 for t in texts[:-1]), [len(t) for t in texts]
    assert all(t.endswith("\n") for t in texts)
    alone = millrace(job(tmp_path, source, {"type": "Stdout", "config": {"format": "text", "template": "{{_value}}"}}))
    assert "".join(texts) == alone.out


def test_rolling_by_time(millrace, tmp_path):
    source = {"type": "Generator", "config": {"profile": "ad_clicks", "count": 3000, "rate": 1000}}
    sink = {"type": "File", "config": {"path": "out/c.txt", "format": "text", "template": "{{_value}}", "roll": {"every": "500ms"}}}
    run = millrace(job(tmp_path, source, sink))
    assert run.code == 0, run.err
    files = sorted((tmp_path / "out").glob("c-*"))
    assert len(files) >= 3
    assert sum(len(f.read_text().splitlines()) for f in files) == 3000


def test_zstd_and_gzip_are_read_again(millrace, tmp_path):
    """What the sink has written the source reads: the same rows, also where a second run has appended."""
    rows = [{"n": i, "t": "é" * (i % 50)} for i in range(3000)]
    for name in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]:
        sink = {"type": "File", "config": {"path": name}}
        for part in (rows[:1000], rows[1000:]):
            assert millrace(job(tmp_path, inline(part), sink)).code == 0
        run = millrace(job(tmp_path, {"type": "File", "config": {"path": name, "format": "json"}}, {"type": "Stdout", "config": {"format": "json"}},
                           [{"type": "StringToMap", "config": {"fields": {"n": "bigint", "t": "string"}}}]))
        assert [json.loads(line) for line in run.out.splitlines()] == rows, name


# --- the terminal ---------------------------------------------------------------------------------------------------------------------

ROWS = [{"name": "bolt M4", "n": 12, "p": 0.25, "ok": True}, {"name": 'a "b"=c', "n": -3, "p": None, "ok": False}, {"name": "é", "n": 100000}]


@pytest.mark.parametrize("format, want", [
    ("json", '{"name":"bolt M4","n":12,"p":0.25,"ok":true}\n{"name":"a \\"b\\"=c","n":-3,"p":null,"ok":false}\n{"name":"é","n":100000}\n'),
    ("logfmt", 'name="bolt M4" n=12 p=0.25 ok=true\nname="a \\"b\\"=c" n=-3 p=null ok=false\nname=é n=100000\n'),
])
def test_lines_on_the_terminal(millrace, tmp_path, format, want):
    run = millrace(job(tmp_path, inline(ROWS), {"type": "Stdout", "config": {"format": format}}))
    assert (run.code, run.out) == (0, want)


def test_a_table_on_the_terminal(millrace, tmp_path):
    run = millrace(job(tmp_path, inline(ROWS), {"type": "Stdout", "config": {"format": "table", "columns": ["name", "n", "ok"]}}))
    assert run.code == 0, run.err
    lines = run.out.splitlines()
    assert re.split(r"\s+", lines[0].strip()) == ["name", "n", "ok"]
    body = [line for line in lines[1:] if any(c.isalnum() for c in line)]
    assert [line.split()[-2:] for line in body[:2]] == [["12", "true"], ["-3", "false"]] and "100000" in body[2]
    ends = [re.search(r"(12|-3|100000)(?!\w)", line).end() for line in body]
    assert len(set(ends)) == 1, "numbers stand to the right"


# --- generated records ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["ad_exposures", "ad_clicks", "web_access", "nexmark"])
def test_profiles_of_the_generator(millrace, tmp_path, profile):
    def lines(workers=1, **more):
        source = {"type": "Generator", "config": {"profile": profile, "count": 500, **more}}
        run = millrace(job(tmp_path, source, {"type": "Stdout", "config": {"format": "text", "template": "{{_value}}"}}), args=("--workers", workers))
        assert run.code == 0 and run.summary["in"] == 500, run.err
        return run.out.splitlines()

    got = lines()
    assert len(got) == 500 and got == lines(), "a seed gives the same records"
    assert got != lines(seed=2)
    assert collections.Counter(lines(partitions=3, workers=2)) == collections.Counter(got)
    if profile == "ad_exposures":
        assert all({"ts", "uid", "mid", "pos", "src", "client", "ext", "ip", "price"} <= set(json.loads(g)) for g in got)
    elif profile == "ad_clicks":
        assert all(re.fullmatch(r"u\d+\t\d+\t[^\t]+\t\d{13}\t\d+\.\d\d", g) for g in got), got[0]
    elif profile == "web_access":
        assert all(re.fullmatch(r'(\d+\.){3}\d+ - - \[[^]]+\] "[A-Z]+ /\S+ HTTP/1\.1" \d{3} (\d+|-) "[^"]*" "[^"]*" \d+\.\d{3}', g) for g in got), got[0]
    else:
        kinds = collections.Counter(json.loads(g)["event_type"] for g in got)
        assert kinds == {0: 10, 1: 30, 2: 460}


# --- a wash through YAML --------------------------------------------------------------------------------------------------------------


def test_template_extract_through_yaml(millrace, tmp_path):
    """One field a theme of helpers, against Python's own libraries."""
    url = "https://m.example.com:8443/a/b?uid=42&q=a%20b"
    row = {"os": "IOS", "price": "12.345", "ts": 1704067200123, "url": url, "ext": "a=1|b=2|c", "ip": "10.1.2.3", "tags": ["x", "y", "z"],
           "raw": base64.b64encode("héllo".encode()).decode(), "m": {"k": {"v": 7}}, "none": None}
    fields = {
        "lower": "{{lower os}}",
        "cents": {"expr": "floor(cast(price as decimal(18,3)) * 100 + 0.5)", "type": "bigint"},
        "sum": {"template": "{{add 1 (mul 2 3)}}", "type": "bigint"},
        "day": "{{date_format (from_epoch_ms ts) '%Y-%m-%d %H:%M' 'Asia/Shanghai'}}",
        "host": "{{url_host url}}",
        "q": "{{query_param url 'q'}}",
        "b": "{{get (split ext '|' '=') 'b'}}",
        "salt": "{{md5_prefix os 4}}_{{sha256 os}}",
        "private": "{{ip_is_private ip}}",
        "net": "{{ip_prefix ip 16}}",
        "text": "{{base64_decode raw}}",
        "hex": "{{hex_encode os}}",
        "deep": "{{m.k.v}}",
        "second": "{{at tags 1}}",
        "joined": "{{join tags '-'}}",
        "loop": "{{#each tags}}{{@index}}{{this}},{{/each}}",
        "cond": "{{#if (gt (number price) 10)}}dear{{else}}cheap{{/if}}",
        "dflt": "{{default none 'nothing'}}",
        "capture": "{{regex_capture url '/([a-z])[?]'}}",
        "cut": "{{substring os 1 2}}",
    }
    types = {"os": "string", "price": "string", "ts": "bigint", "url": "string", "ext": "string", "ip": "string", "tags": "array", "raw": "string", "m": "map", "none": "string"}
    source = {"type": "Inline", "config": {"lines": [json.dumps(row)]}}
    run = millrace(job(tmp_path, source, {"type": "Stdout", "config": {"format": "json"}},
                       [{"type": "StringToMap", "config": {"fields": types}}, {"type": "Logwash", "config": {"fields": fields}}]))
    assert run.code == 0, run.err
    got = json.loads(run.out)
    md5, sha = hashlib.md5(b"IOS").hexdigest(), hashlib.sha256(b"IOS").hexdigest()
    assert {k: v if isinstance(v, str) else str(v).lower() for k, v in got.items() if k in fields} == {
        "lower": "ios", "cents": "1235", "sum": "7", "day": "2024-01-01 08:00", "host": "m.example.com", "q": "a b", "b": "2", "salt": f"{md5[:4]}_{sha}",
        "private": "true", "net": "10.1.0.0/16", "text": "héllo", "hex": "494f53", "deep": "7", "second": "y", "joined": "x-y-z", "loop": "0x,1y,2z,",
        "cond": "dear", "dflt": "nothing", "capture": "b", "cut": "OS"}
