"""Small jobs over files, for tests that need no server."""
import json

BASE = 1_700_000_000_000
#: What every answer must be independent of.
WAYS = [("--workers", 1), ("--workers", 2), ("--workers", 3), ("--workers", 1, "--roundtrip-state"), ("--workers", 3, "--roundtrip-state"),
        ("--processes", 2, "--workers", 1), ("--processes", 3, "--workers", 2)]


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def stream(path, fields, bound, field="ts", **more):
    return {"config": {
        "source": {"type": "File", "config": {"path": path}},
        "operates": [{"type": "StringToMap", "config": {"format": "json", "fields": fields}}],
        "watermark": {"field": field, "format": "epoch_ms", "max_out_of_orderness": f"{bound}ms", **more}}}


def file_sink(name, input=None):
    return {"type": "File", "name": name + "_out", **({"input": input} if input else {}), "config": {"path": f"out/{name}.jsonl", "on_exists": "truncate"}}


def write_job(tmp, job):
    job = {"name": "semantics", **job}
    job.setdefault("run_env", {"time_characteristic": "EventTime"})
    job["run_env"].setdefault("dead_letter", {"type": "File", "config": {"path": "out/dead.jsonl", "on_exists": "truncate"}})
    path = tmp / "job.yaml"
    path.write_text(json.dumps(job, indent=1))
    return path


def part(run, name):
    return next(p for p in run.summary["parts"] if p["name"] == name)


def adds_up(run, copies=()):
    """Every row that came into a part that neither makes nor gathers rows has left it, and nothing is lost."""
    s = run.summary
    assert s["lost"] == 0
    assert s["in"] == sum(p["in"] for p in s["parts"] if p["kind"] == "source") == sum(x["records"] for x in s["sources"])
    assert s["rejected"] == sum(sum(p["rejected"].values()) for p in s["parts"])
    written = [p for p in s["parts"] if p["kind"] == "sink"]
    assert s["out"] == sum(p["in"] for p in written if p["name"] != "dead_letter")
    assert s["rejected"] == sum(p["in"] for p in written if p["name"] == "dead_letter")
    for p in s["parts"]:
        if p["type"] in ("IntervalLeftJoin", "CountWindowWithTimeOut", "SplitElement") or p["name"] in copies:
            continue
        gone = sum(p["rejected"].values()) + sum(p["dropped"].values())
        assert gone <= p["in"] if p["kind"] == "sink" else gone + p["out"] == p["in"], p


def dealt(rng, rows, partitions, jitter):
    """Rows as (event time, row) put into partitions, each in order of arrival: event time plus at most `jitter`."""
    files = [[] for _ in range(partitions)]
    for ts, row in sorted(rows, key=lambda r: r[0] + rng.randint(0, jitter)):
        files[rng.randrange(partitions)].append(row)
    return files
