"""Routing, keys, look-ups, event time at the source, and how runs end. Needs no server."""
import collections
import datetime
import json
import random
import signal
import time
from decimal import Decimal

import pytest

from jobs import BASE, WAYS, adds_up, dealt, file_sink, jsonl, part, read, stream, write_job

FIELDS = {"i": "bigint", "k": "string", "n": "bigint", "ts": "bigint"}


def random_rows(rng, count, keys=8):
    rows = []
    for i in range(count):
        row = {"i": i, "k": rng.choice([f"k{rng.randrange(keys)}", None]), "n": rng.choice([None, rng.randint(-5, 5)]), "ts": BASE + i * 10}
        rows.append({f: v for f, v in row.items() if v is not None or rng.random() < 0.5})
    return rows


def inline(rows, operates=(), **more):
    return {"config": {"source": {"type": "Inline", "config": {"lines": [json.dumps(r) if isinstance(r, dict) else r for r in rows], **more}},
                       "operates": list(operates)}}


def late_job(tmp, paths, bound=0, **watermark):
    """Every row, its lateness told by a Dedup over a field that all rows have of their own."""
    return write_job(tmp, {"streams": {"s": stream(paths, FIELDS, bound, **watermark)},
                           "transforms": [{"type": "Dedup", "name": "d", "config": {"keys": ["i"], "within": "1ms"}}], "sink": [file_sink("kept", "d")]})


def ids(path):
    return [r["i"] for r in read(path)]


@pytest.mark.parametrize("match, rest", [("first", "port"), ("first", "drop"), ("all", "port"), ("all", "drop")])
def test_split_union_and_select(millrace, tmp_path, match, rest):
    rng = random.Random(match + rest)
    rows = random_rows(rng, 700)
    files = dealt(rng, [(r["ts"], r) for r in rows], 3, 0)
    for i, f in enumerate(files):
        jsonl(tmp_path / f"in/{i}.jsonl", f)
    ports = {"small": "n < 0", "even": "n % 2 = 0", "known": "k IN ('k1', 'k2')"}
    truth = {"small": lambda r: r.get("n") is not None and r["n"] < 0, "even": lambda r: r.get("n") is not None and r["n"] % 2 == 0,
             "known": lambda r: r.get("k") in ("k1", "k2")}
    want = collections.defaultdict(list)
    for r in rows:
        fits = [p for p in ports if truth[p](r)] or ["rest"]
        for p in fits if match == "all" else fits[:1]:
            want[p].append(r["i"])
    job = {"run_env": {"time_characteristic": "ProcessingTime"},
           "streams": {"s": {"config": {"source": {"type": "File", "config": {"path": "in/*.jsonl"}},
                                        "operates": [{"type": "StringToMap", "config": {"format": "json", "fields": FIELDS}}]}}},
           "transforms": [{"type": "SplitStream", "name": "split", "config": {"ports": ports, "match": match, "rest": rest}},
                          {"type": "SelectStream", "name": "picked", "config": {"port": "even"}},
                          {"type": "Union", "name": "both", "input": ["split.small", "split.known"]}],
           "sink": [file_sink("even", "picked"), file_sink("both", "both")] + ([file_sink("rest", "split.rest")] if rest == "port" else [])}
    topology = write_job(tmp_path, job)
    for way in WAYS[:3]:
        run = millrace(topology, args=way)
        assert run.code == 0, run.err
        assert sorted(ids(tmp_path / "out/even.jsonl")) == want["even"]
        assert sorted(ids(tmp_path / "out/both.jsonl")) == sorted(want["small"] + want["known"])
        split = part(run, "split")
        if rest == "port":
            assert sorted(ids(tmp_path / "out/rest.jsonl")) == want["rest"]
        else:
            assert split["dropped"].get("no_port", 0) == len(want["rest"])
        assert split["ports"]["small"] == len(want["small"]) and split["ports"]["even"] == len(want["even"])
        adds_up(run, copies=("split",) if match == "all" else ())


def test_select_stream_drops_what_it_does_not_take(millrace, tmp_path):
    rows = random_rows(random.Random(1), 100)
    job = {"run_env": {"time_characteristic": "ProcessingTime"},
           "streams": {"s": inline(rows, [{"type": "StringToMap", "config": {"format": "json", "fields": FIELDS}}])},
           "transforms": [{"type": "SplitStream", "config": {"ports": {"a": "n > 0", "b": "n < 0"}}}, {"type": "SelectStream", "config": {"port": "a"}}],
           "sink": [file_sink("a")]}
    run = millrace(write_job(tmp_path, job))
    assert run.code == 0, run.err
    want = [r["i"] for r in rows if (r.get("n") or 0) > 0]
    assert ids(tmp_path / "out/a.jsonl") == want
    assert sum(sum(p["dropped"].values()) for p in run.summary["parts"]) == 100 - len(want)
    adds_up(run)


def test_numbers_and_texts_as_keys(millrace, tmp_path):
    values = ["1", "1.0", "1e0", "10e-1", '"1"', '"1.0"', "true", '"true"', "null", "12345678901234567890", "12345678901234567891", "0", "-0", "-0.0", "0.1", "1e-1",
              "9007199254740993", "9007199254740992", "2", '""']
    groups = [{"1", "1.0", "1e0", "10e-1"}, {'"1"'}, {'"1.0"'}, {"true"}, {'"true"'}, {"null", "missing"}, {"12345678901234567890"}, {"12345678901234567891"},
              {"0", "-0", "-0.0"}, {"0.1", "1e-1"}, {"9007199254740993"}, {"9007199254740992"}, {"2"}, {'""'}]
    rng = random.Random(2)
    chosen = [rng.choice(values + ["missing"]) for _ in range(400)]
    lines = ['{"i":%d}' % i if v == "missing" else '{"i":%d,"x":%s}' % (i, v) for i, v in enumerate(chosen)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    want = sorted(tuple(i for i, v in enumerate(chosen) if v in g) for g in groups)
    job = {"run_env": {"time_characteristic": "ProcessingTime"},
           "streams": {"s": {"config": {"source": {"type": "File", "config": {"path": "in.jsonl"}}, "operates": [{"type": "StringToMap", "config": {"format": "json", "fields": {"i": "bigint", "x": "any"}}}]}}},
           "transforms": [{"type": "KeyBy", "config": {"keys": ["x"]}}, {"type": "CountWindowWithTimeOut", "config": {"count": 10_000, "timeout": "1h"}}],
           "sink": [file_sink("w")]}
    for way in WAYS:
        run = millrace(write_job(tmp_path, job), args=way)
        assert run.code == 0, run.err
        got = sorted(tuple(r["i"] for r in w["rows"]) for w in read(tmp_path / "out/w.jsonl"))
        assert got == [w for w in want if w]


@pytest.mark.parametrize("seed, within", [(0, None), (1, 0.001), (2, 1), (3, 30), (4, None), (5, 5)])
def test_dedup(millrace, tmp_path, seed, within):
    """Each key in one partition: the first row, and with `within` each that comes later than that after the one kept."""
    rng = random.Random(seed)
    bound = rng.choice([0, 500])
    files = [[], [], []]
    for i in range(800):
        k = rng.randrange(30)
        ts = BASE + i * rng.choice([5, 50]) - rng.choice([0, 0, rng.randrange(2_000)])
        files[k % 3].append({"i": i, "k": f"k{k}", "ts": ts})
    want, late = [], []
    for p, rows in enumerate(files):
        jsonl(tmp_path / f"in/{p}.jsonl", rows)
        kept, greatest = {}, None
        for r in rows:
            behind = greatest is not None and r["ts"] < greatest - bound
            greatest = max(r["ts"], greatest or r["ts"])
            if behind and within is not None:
                late.append(r["i"])
            elif r["k"] not in kept or within is not None and r["ts"] > kept[r["k"]] + within * 1000:
                kept[r["k"]] = r["ts"]
                want.append(r["i"])
    config = {"keys": ["k"], **({} if within is None else {"within": f"{int(within * 1000)}ms"})}
    job = {"streams": {"s": stream("in/*.jsonl", FIELDS, bound)}, "transforms": [{"type": "Dedup", "name": "d", "config": config}],
           "sink": [file_sink("kept", "d"), file_sink("late", "d.late")]}
    topology = write_job(tmp_path, job)
    for way in WAYS:
        run = millrace(topology, args=way)
        assert run.code == 0, run.err
        assert sorted(ids(tmp_path / "out/kept.jsonl")) == sorted(want) and sorted(ids(tmp_path / "out/late.jsonl")) == sorted(late)
        assert part(run, "d")["dropped"].get("duplicate", 0) == 800 - len(want) - len(late)
        adds_up(run)


@pytest.mark.parametrize("on_missing", ["null", "drop", "port"])
def test_lookup(millrace, tmp_path, on_missing):
    rng = random.Random(on_missing)
    rows = [r for r in random_rows(rng, 3_000, keys=40) if "k" in r]
    table = {f"k{i}": {"k": f"k{i}", "town": rng.choice(["Oslo", "\u5317\u4eac", None]), "age": i, "fee": i / 4} for i in range(0, 40, 2)}
    jsonl(tmp_path / "table.jsonl", [{"k": "k0", "town": "old"}, *table.values()])
    jsonl(tmp_path / "in.jsonl", rows)
    job = {"run_env": {"time_characteristic": "ProcessingTime"},
           "stores": {"t": {"type": "Embedded", "config": {"load": "table.jsonl", "key": "{{k}}"}}},
           "streams": {"s": {"config": {"source": {"type": "File", "config": {"path": "in.jsonl"}},
                                        "operates": [{"type": "StringToMap", "config": {"format": "json", "fields": FIELDS}}]}}},
           "transforms": [{"type": "KeyBy", "config": {"keys": ["k"]}},
                          {"type": "Lookup", "name": "found", "config": {
                              "store": "t", "fields": {"town": "town", "years": {"column": "age", "type": "bigint"}, "fee": {"type": "decimal(10,2)"}}, "on_missing": on_missing}}],
           "sink": [file_sink("found", "found")] + ([file_sink("missing", "found.missing")] if on_missing == "port" else [])}
    topology = write_job(tmp_path, job)
    for way in WAYS[:3]:
        run = millrace(topology, args=way)
        assert run.code == 0, run.err
        got = [json.loads(x, parse_float=Decimal) for x in (tmp_path / "out/found.jsonl").read_text().splitlines()]
        want, missing = {}, []
        for r in rows:
            t = table.get(r["k"])
            if t is None and on_missing != "null":
                missing.append(r["i"])
                continue
            t = t or {"town": None, "age": None, "fee": None}
            want[r["i"]] = {**r, "town": t["town"], "years": t["age"], "fee": None if t["fee"] is None else Decimal(t["fee"])}
        assert {r["i"]: r for r in got} == want and len(got) == len(want)
        by_key = collections.defaultdict(list)
        for r in got:
            by_key[r["k"]].append(r["i"])
        assert all(v == sorted(v) for v in by_key.values())
        if on_missing == "port":
            assert sorted(ids(tmp_path / "out/missing.jsonl")) == missing
        if on_missing == "drop":
            assert part(run, "found")["dropped"] == {"missing": len(missing)}
        adds_up(run)


def test_requeue_after_a_join(millrace, tmp_path):
    """Rows without a partner go round until `max_attempts`; attempts travel in hidden fields."""
    jsonl(tmp_path / "left/0.jsonl", [{"i": i, "k": f"k{i}", "ts": BASE + i} for i in range(50)])
    jsonl(tmp_path / "right/0.jsonl", [{"k": f"k{i}", "ts": BASE + i, "n": i} for i in range(0, 50, 2)])
    job = {"streams": {"l": stream("left/*.jsonl", {"i": "bigint", "k": "string", "ts": "bigint"}, 0), "r": stream("right/*.jsonl", {"k": "string", "ts": "bigint", "n": "bigint"}, 0)},
           "transforms": [{"type": "IntervalLeftJoin", "name": "j", "left": "l", "right": "r",
                           "config": {"keys": ["k"], "lower": "0s", "upper": "0s", "unmatched": "port", "right_fields": ["n"]}},
                          {"type": "Requeue", "name": "q", "input": "j.unmatched", "config": {"max_attempts": 1, "max_age": "1h", "delay": "1s"}},
                          {"type": "Requeue", "name": "q2", "input": "q.again", "config": {"max_attempts": 1}}],
           "sink": [file_sink("joined", "j"), file_sink("never", "q.given_up"), file_sink("again", "q2.again"), file_sink("given_up", "q2.given_up")]}
    job["sink"][3]["config"]["columns"] = ["i", "_attempts"]
    for way in WAYS[:3]:
        run = millrace(write_job(tmp_path, job), args=way)
        assert run.code == 0, run.err
        assert sorted(ids(tmp_path / "out/joined.jsonl")) == list(range(0, 50, 2))
        assert read(tmp_path / "out/never.jsonl") == [] and read(tmp_path / "out/again.jsonl") == []
        assert sorted((r["i"], r["_attempts"]) for r in read(tmp_path / "out/given_up.jsonl")) == [(i, 1) for i in range(1, 50, 2)]
        adds_up(run)


def test_a_row_is_found_when_it_is_asked_for_again(millrace, tmp_path):
    """`retry` in the join's config: the store is filled while a left row waits for its next attempt."""
    (tmp_path / "in").mkdir()
    streams = {}
    for name in ("left", "right", "fill"):
        (tmp_path / f"in/{name}.jsonl").write_text("")
        streams[name] = stream(f"in/{name}.jsonl", FIELDS, 0)
        streams[name]["config"]["source"]["config"].update(mode="follow", start="beginning", scan_interval="100ms")
    job = {"stores": {"old": {"type": "Embedded", "config": {"path": "table", "key": "{{k}}"}}}, "streams": streams,
           "transforms": [{"type": "IntervalLeftJoin", "name": "j", "left": "left", "right": "right", "config": {
               "keys": ["k"], "lower": "0s", "upper": "1s", "fallback": "old", "unmatched": "port", "right_fields": {"r": "i"}, "retry": {"delay": "100ms", "max_attempts": 100}}}],
           "sink": [file_sink("joined", "j"), file_sink("unmatched", "j.unmatched"), {"type": "Embedded", "name": "fill_out", "input": "fill", "config": {"path": "table", "key": "{{k}}"}}]}
    for way in WAYS[1:4:2]:
        for f in ("left", "right", "fill"):
            (tmp_path / f"in/{f}.jsonl").write_text("")
        running = millrace(write_job(tmp_path, job), args=way, wait=False)
        key = "x" + "".join(map(str, way))
        add(tmp_path, "left", [{"i": 1, "k": key, "ts": BASE}, {"i": 2, "k": "never", "ts": BASE}, {"i": 3, "k": "z", "ts": BASE + 60_000}])
        add(tmp_path, "right", [{"i": 4, "k": "z", "ts": BASE + 60_000}])
        until(lambda: ids(tmp_path / "out/joined.jsonl") == [3])
        time.sleep(0.5)
        add(tmp_path, "fill", [{"i": 7, "k": key, "ts": BASE}])
        until(lambda: len(read(tmp_path / "out/joined.jsonl")) == 2)
        run = running.stop()
        assert run.code == 0, run.err
        assert sorted((r["i"], r["r"]) for r in read(tmp_path / "out/joined.jsonl")) == [(1, 7), (3, 4)]
        assert ids(tmp_path / "out/unmatched.jsonl") == [2]
        c = part(run, "j")["counters"]
        assert (c["left"], c["matched"], c["by_fallback"], c["unmatched"]) == (3, 1, 1, 1)
        assert c["lookups"] > 4


# --- event time ---------------------------------------------------------------------------------------------------------------------


def test_unread_late_rows_reach_the_dead_letter_and_the_figures_add_up(millrace, tmp_path):
    jsonl(tmp_path / "in.jsonl", [{"i": i, "ts": BASE + (i if i % 10 else 0)} for i in range(1, 101)])
    run = millrace(late_job(tmp_path, "in.jsonl"))
    assert run.code == 0, run.err
    d = part(run, "d")
    assert (d["in"], d["out"], d["rejected"], d["ports"]["late"]) == (100, 90, {"late": 10}, 10)
    assert len(read(tmp_path / "out/dead.jsonl")) == 10
    adds_up(run)


def test_times_that_cannot_be(millrace, tmp_path):
    """Single rows with impossible times are rejected, wherever they stand, and move no watermark."""
    now = int(time.time() * 1000)
    bad = {"too-far-in-future": [now + 2 * 86_400_000, 253_300_000_000_000], "implausible-event-time": [0, 1, -5_000, 946_684_799_999],
           "invalid-time": [None, "x", 253_402_300_799_000, 9_223_372_036_854_775_807, -9_223_372_036_854_775_808]}
    rng = random.Random(3)
    rows = [{"i": i, "ts": BASE + i} for i in range(400)]
    for reason, times in bad.items():
        for ts in times:
            rows.insert(rng.randrange(len(rows)), {"i": 1000, "ts": ts})
    rows.insert(0, {"i": 1000, "ts": 0})
    bad["implausible-event-time"].append(0)
    jsonl(tmp_path / "in.jsonl", rows)
    job = json.loads(late_job(tmp_path, "in.jsonl").read_text())
    job["streams"]["s"]["config"]["operates"][0]["config"]["fields"] = {"i": "bigint", "ts": "any"}
    for way in WAYS[:2]:
        run = millrace(write_job(tmp_path, job), args=way)
        assert run.code == 0, run.err
        assert sorted(ids(tmp_path / "out/kept.jsonl")) == list(range(400))
        assert collections.Counter(part(run, "s")["rejected"]) == {k: len(v) for k, v in bad.items()}
        assert len(read(tmp_path / "out/dead.jsonl")) == sum(len(v) for v in bad.values())
        adds_up(run)


@pytest.mark.parametrize("first, halts", [(100, True), (99, False), (99, None)])
def test_a_wrong_time_format_halts(millrace, tmp_path, first, halts):
    """All of a partition's first 100 rows before 2000 (epoch_s read as epoch_ms)."""
    jsonl(tmp_path / "in/a.jsonl", [{"i": i, "ts": BASE // 1000 + i} for i in range(first)] + ([] if halts is None else [{"i": i, "ts": BASE + i} for i in range(first, 150)]))
    jsonl(tmp_path / "in/b.jsonl", [{"i": 1000 + i, "ts": BASE + i} for i in range(150)])
    run = millrace(late_job(tmp_path, "in/*.jsonl"))
    if halts:
        assert run.code == 4 and "implausible-event-time" in run.err
    else:
        assert run.code == 0, run.err
        kept = sorted(ids(tmp_path / "out/kept.jsonl"))
        assert kept == (list(range(99)) if halts is None else list(range(99, 150))) + list(range(1000, 1150))
        adds_up(run)


@pytest.mark.parametrize("format, write", [
    ("epoch_ms", lambda t: t), ("epoch_ms", str), ("epoch_s", lambda t: t / 1000), ("epoch_s", lambda t: f"{t // 1000}.{t % 1000:03}"),
    ("iso8601", lambda t: utc(t).isoformat(timespec="milliseconds")),
    ("iso8601", lambda t: utc(t).astimezone(datetime.timezone(datetime.timedelta(hours=-7))).isoformat(timespec="milliseconds")),
    ("iso8601", lambda t: utc(t).isoformat(timespec="milliseconds").replace("+00:00", "Z")),
    ("iso8601", lambda t: (utc(t) + datetime.timedelta(hours=8)).replace(tzinfo=None).isoformat(timespec="milliseconds")),
    ("%Y-%m-%d %H:%M:%S%.f", lambda t: (utc(t) + datetime.timedelta(hours=8)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]),
    ("yyyy-MM-dd HH:mm:ss.SSS", lambda t: (utc(t) + datetime.timedelta(hours=8)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3])])
def test_time_formats(millrace, tmp_path, format, write):
    """Times without an offset are in the job's zone; windows tell which time a row got."""
    times = [BASE + 86_400_000 * 40 * i + 123 * i for i in range(20)]
    jsonl(tmp_path / "in.jsonl", [{"i": i, "ts": write(t)} for i, t in enumerate(times)])
    job = {"run_env": {"time_characteristic": "EventTime", "time_zone": "Asia/Shanghai"}, "streams": {"s": stream("in.jsonl", {"i": "bigint", "ts": "any"}, 0)},
           "transforms": [{"type": "KeyBy", "config": {"keys": ["i"]}}, {"type": "CountWindowWithTimeOut", "config": {"count": 1, "timeout": "1s", "aggregates": {"n": "count(*)"}}}],
           "sink": [file_sink("w")]}
    job["streams"]["s"]["config"]["watermark"]["format"] = format
    run = millrace(write_job(tmp_path, job))
    assert run.code == 0, run.err
    assert {r["i"]: r["window_start"] for r in read(tmp_path / "out/w.jsonl")} == dict(enumerate(times))


def utc(t):
    return datetime.datetime.fromtimestamp(t // 1000, datetime.timezone.utc) + datetime.timedelta(milliseconds=t % 1000)


def followed(tmp, bound, files, **watermark):
    """A counting job that follows files as they are written."""
    for f in files:
        (tmp / "in").mkdir(exist_ok=True)
        (tmp / f"in/{f}.jsonl").write_text("")
    s = stream("in/*.jsonl", FIELDS, bound, **watermark)
    s["config"]["source"]["config"].update(mode="follow", start="beginning", scan_interval="100ms")
    return write_job(tmp, {"streams": {"s": s}, "transforms": [{"type": "KeyBy", "config": {"keys": ["k"]}}, {
        "type": "CountWindowWithTimeOut", "name": "w", "config": {"count": 3, "timeout": "1s"}}],
        "sink": [file_sink("windows", "w"), file_sink("late", "w.late"), file_sink("seen", "s")]})


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


def add(tmp, name, rows):
    with open(tmp / f"in/{name}.jsonl", "a") as f:
        f.write("".join(json.dumps(r) + "\n" for r in rows))


def windows_out(tmp):
    return [(r["window_start"] - BASE, r["why"], [x["i"] for x in r["rows"]]) for r in read(tmp / "out/windows.jsonl")]


def test_an_idle_partition_steps_aside(millrace, tmp_path):
    """With `idle_after` windows close although one partition is silent; what it brings later below the watermark is late."""
    job = millrace(followed(tmp_path, 0, "ab", idle_after="300ms"), args=("--workers", 1), wait=False)
    add(tmp_path, "b", [{"i": 0, "k": "x", "ts": BASE}])
    add(tmp_path, "a", [{"i": i, "k": "y", "ts": BASE + i * 500} for i in range(1, 10)])
    n = 10

    def goes_on():
        nonlocal n
        add(tmp_path, "a", [{"i": n, "k": "y", "ts": BASE + n * 500}])
        n += 1
        time.sleep(0.05)
        return (0, "timeout", [0]) in windows_out(tmp_path)

    until(goes_on)
    assert job.process.poll() is None
    add(tmp_path, "b", [{"i": -1, "k": "x", "ts": BASE + 100}, {"i": -2, "k": "x", "ts": BASE + 900_000}])
    until(lambda: ids(tmp_path / "out/late.jsonl") == [-1])
    run = job.stop()
    assert run.code == 0, run.err
    others = [w for w in windows_out(tmp_path) if w[2][0] > 0]
    assert sorted(i for w in others for i in w[2]) == list(range(1, n)) and all(len(w[2]) == 3 or w is others[-1] for w in others)
    assert [w for w in windows_out(tmp_path) if w not in others] == [(0, "timeout", [0]), (900_000, "timeout", [-2])]


def test_a_silent_partition_holds_the_watermark(millrace, tmp_path):
    """Without `idle_after` nothing closes, and nothing is late, until it is stopped."""
    job = millrace(followed(tmp_path, 0, "ab"), args=("--workers", 2), wait=False)
    add(tmp_path, "b", [{"i": 0, "k": "x", "ts": BASE}])
    add(tmp_path, "a", [{"i": i, "k": "y", "ts": BASE + i * 500} for i in range(1, 10)])
    until(lambda: len(windows_out(tmp_path)) == 3)
    time.sleep(0.5)
    assert len(windows_out(tmp_path)) == 3
    add(tmp_path, "b", [{"i": 100, "k": "x", "ts": BASE + 100}])
    until(lambda: 100 in ids(tmp_path / "out/seen.jsonl"))
    run = job.stop()
    assert run.code == 0, run.err
    assert (0, "timeout", [0, 100]) in windows_out(tmp_path) and ids(tmp_path / "out/late.jsonl") == []


@pytest.mark.parametrize("workers", [1, 3])
def test_a_slow_replay_gives_the_same_windows(millrace, tmp_path, workers):
    rng = random.Random(workers)
    rows = sorted(({"i": i, "k": f"k{i % 4}", "ts": BASE + rng.randrange(8_000)} for i in range(200)), key=lambda r: r["ts"] + rng.randrange(900))
    job = millrace(followed(tmp_path, 500, "a"), args=("--workers", workers), wait=False)
    for i in range(0, 200, 20):
        add(tmp_path, "a", rows[i:i + 20])
        time.sleep(0.08)
    until(lambda: len(ids(tmp_path / "out/seen.jsonl")) == 200)
    slow = job.stop()
    got = windows_out(tmp_path), sorted(ids(tmp_path / "out/late.jsonl"))
    fast_job = json.loads((tmp_path / "job.yaml").read_text())
    fast_job["streams"]["s"]["config"]["source"]["config"] = {"path": "in/*.jsonl"}
    fast = millrace(write_job(tmp_path, fast_job), args=("--workers", 1))
    assert slow.code == fast.code == 0, slow.err
    assert got[1] == sorted(ids(tmp_path / "out/late.jsonl")) and got[1]
    assert sorted(got[0]) == sorted(windows_out(tmp_path))


# --- the clock as time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["ProcessingTime", "IngestionTime"])
def test_windows_by_the_clock(millrace, tmp_path, kind, way):
    rows = [{"i": i, "k": f"k{i % 7}"} for i in range(1_000)]
    jsonl(tmp_path / "in.jsonl", rows)
    s = stream("in.jsonl", {"i": "bigint", "k": "string"}, 0)
    del s["config"]["watermark"]
    job = {"run_env": {"time_characteristic": kind}, "streams": {"s": s},
           "transforms": [{"type": "KeyBy", "config": {"keys": ["k"]}}, {"type": "CountWindowWithTimeOut", "name": "w", "config": {"count": 10, "timeout": "1h"}}],
           "sink": [file_sink("w", "w")]}
    run = millrace(write_job(tmp_path, job), args=way)
    assert run.code == 0, run.err
    got = read(tmp_path / "out/w.jsonl")
    assert sorted(x["i"] for w in got for x in w["rows"]) == list(range(1_000))
    for w in got:
        assert len({x["k"] for x in w["rows"]}) == 1 and [x["i"] for x in w["rows"]] == sorted(x["i"] for x in w["rows"])
        assert (len(w["rows"]) == 10) == (w["why"] == "count")
        assert 0 <= w["window_last"] - w["window_start"] < 60_000 and abs(w["window_start"] / 1000 - time.time()) < 60
    assert collections.Counter(w["why"] for w in got) == {"count": 98, "timeout": 7}


def test_a_timer_closes_windows_while_nothing_comes(millrace, tmp_path):
    topology = followed(tmp_path, 0, "a")
    job = json.loads(topology.read_text())
    job["run_env"]["time_characteristic"] = "ProcessingTime"
    del job["streams"]["s"]["config"]["watermark"]
    del job["sink"][1]
    job["transforms"][1]["config"]["timeout"] = "100ms"
    running = millrace(write_job(tmp_path, job), wait=False)
    add(tmp_path, "a", [{"i": 0, "k": "x"}])
    until(lambda: len(read(tmp_path / "out/windows.jsonl")) == 1)
    assert running.process.poll() is None
    assert read(tmp_path / "out/windows.jsonl")[0]["why"] == "timeout"
    assert running.stop().code == 0


@pytest.mark.parametrize("kind", ["ProcessingTime", "IngestionTime"])
def test_a_join_by_the_clock_keeps_every_left_row(millrace, tmp_path, kind):
    for side in ("left", "right"):
        jsonl(tmp_path / f"{side}.jsonl", [{side[0]: i, "k": f"k{i}"} for i in range(0, 300, 1 if side == "left" else 2)])
    streams = {side: stream(f"{side}.jsonl", {side[0]: "bigint", "k": "string"}, 0) for side in ("left", "right")}
    for s in streams.values():
        del s["config"]["watermark"]
    job = {"run_env": {"time_characteristic": kind}, "streams": streams,
           "transforms": [{"type": "IntervalLeftJoin", "name": "j", "left": "left", "right": "right",
                           "config": {"keys": ["k"], "lower": "-1m", "upper": "1m", "right_fields": ["r"], "unmatched": "emit"}}], "sink": [file_sink("j", "j")]}
    for way in WAYS:
        run = millrace(write_job(tmp_path, job), args=way)
        assert run.code == 0, run.err
        got = {r["l"]: r["r"] for r in read(tmp_path / "out/j.jsonl")}
        assert got == {i: None if i % 2 else i for i in range(300)}


# --- ends ---------------------------------------------------------------------------------------------------------------------------


def generator(**more):
    return {"config": {"source": {"type": "Generator", "config": {"profile": "ad_clicks", "rate": 2_000, **more}},
                       "operates": [{"type": "StringToMap", "config": {
                           "format": "delimiter", "delimiter": "\t", "fields": {"uid": "string", "mid": "string", "os": "string", "ts": "bigint", "price": "decimal(18,2)"}}}],
                       "watermark": {"field": "ts", "format": "epoch_ms", "max_out_of_orderness": "1s"}}}


def endless(tmp, streams=("s",)):
    return write_job(tmp, {"streams": {name: generator(seed=i + 1, partitions=2) for i, name in enumerate(streams)},
                           "transforms": [{"type": "Union", "name": "all", "input": list(streams)}] * (len(streams) > 1) + [
                               {"type": "KeyBy", "config": {"keys": ["os"]}},
                               {"type": "CountWindowWithTimeOut", "name": "w", "config": {"count": 7, "timeout": "1h", "aggregates": {"n": "count(*)"}}}],
                           "sink": [file_sink("w", "w")]})


def drained(run, tmp):
    assert run.code == 0, run.err
    assert run.summary["ended"] == "drained"
    assert sum(r["n"] for r in read(tmp / "out/w.jsonl")) == run.summary["in"] > 0
    adds_up(run)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(millrace, tmp_path, sign):
    job = millrace(endless(tmp_path), args=("--workers", 2), wait=False)
    until(lambda: len(read(tmp_path / "out/w.jsonl")) > 20)
    job.process.send_signal(sign)
    drained(job.wait(20), tmp_path)


def test_for_a_while(millrace, tmp_path):
    begun = time.monotonic()
    run = millrace(endless(tmp_path), args=("--for", "1s"))
    assert 1 <= time.monotonic() - begun
    drained(run, tmp_path)


@pytest.mark.parametrize("limit, workers, streams", [(1, 1, "s"), (333, 2, "s"), (1000, 3, "s"), (500, 1, "st"), (777, 3, "st")])
def test_a_limit_is_met_exactly(millrace, tmp_path, limit, workers, streams):
    run = millrace(endless(tmp_path, streams), args=("--limit", limit, "--workers", workers))
    drained(run, tmp_path)
    assert run.summary["in"] == limit
