"""Joins, windows, watermarks and counters against definitions of their own, on random inputs. Needs no server.

The oracles follow the pages of the parts (`millrace explain NAME`) and share no code with the engine."""
import collections
import json
import random
from decimal import Decimal

import pytest

from jobs import BASE, WAYS, adds_up, dealt, file_sink, jsonl, part, read, stream, write_job

# --- interval left join -------------------------------------------------------------------------------------------------------------


class Clicks:
    """A random case: left and right files, the interval, the table to look up in."""

    def __init__(self, seed, disorder_factor=1.0):
        rng = self.rng = random.Random(seed)
        self.bound = rng.choice([0, 500, 5_000])
        self.lower = rng.choice([-10_000, -3_000, 0, 1_000])
        self.upper = self.lower + rng.choice([0, 2_000, 12_000])
        span = rng.choice([20_000, 120_000])
        shift = rng.choice([0, 0, 0, 3_600_000, -3_600_000])
        step = rng.choice([1, 500, 1_000])
        uids = [f"u{i}" for i in range(rng.choice([2, 10, 60]))] + [None]
        n, m = rng.choice([(150, 150), (150, 150), (300, 5), (5, 300), (0, 50), (50, 0), (200, 200)])
        early = rng.choice([1.0, 1.0, 0.3])

        def rows(count, name, span, shift):
            out = []
            for i in range(count):
                ts = BASE + shift + rng.randrange(int(span)) // step * step
                row = {name: i, "k": rng.choice([1, 2, 3]), "ts": ts}
                uid = rng.choice(uids)
                if uid is not None or rng.random() < 0.5:
                    row["uid"] = uid
                out.append((ts, row))
            return out

        jitter = int(self.bound * disorder_factor)
        self.left = dealt(rng, rows(n, "l", span, 0), rng.randint(1, 4), jitter)
        self.right = dealt(rng, rows(m, "r", span * early, shift), rng.randint(1, 4), jitter)
        self.table = [{"uid": f"u{i}", "k": k, "r": -1 - i * 10 - k, "ts": BASE - i} for i in range(60) for k in (1, 2, 3) if rng.random() < 0.5]
        self.ls = [row for f in self.left for row in f]
        self.rs = [row for f in self.right for row in f]

    def pairs(self):
        """For each left row the right rows of its interval. NULL equals nothing."""
        by = collections.defaultdict(list)
        for p, file in enumerate(self.right):
            for o, r in enumerate(file):
                if r.get("uid") is not None:
                    by[r["uid"], r["k"]].append((r["ts"], p, o, r["r"]))
        return {l["l"]: [x for x in by[l.get("uid"), l["k"]] if l["ts"] + self.lower <= x[0] <= l["ts"] + self.upper] for l in self.ls}

    def job(self, tmp, matches, unmatched, fallback, **config):
        for side in ("left", "right"):
            for i, rows in enumerate(getattr(self, side)):
                jsonl(tmp / side / f"{i}.jsonl", rows)
        jsonl(tmp / "table.jsonl", self.table)
        config = {"keys": ["uid", "k"], "lower": f"{self.lower}ms", "upper": f"{self.upper}ms", "matches": matches, "unmatched": unmatched,
                  "right_fields": {"r": "r", "rts": "ts"}, **config}
        job = {
            "streams": {
                "left": stream("left/*.jsonl", {"l": "bigint", "k": "bigint", "ts": "bigint", "uid": "string"}, self.bound),
                "right": stream("right/*.jsonl", {"r": "bigint", "k": "bigint", "ts": "bigint", "uid": "string"}, self.bound)},
            "transforms": [{"type": "IntervalLeftJoin", "name": "j", "left": "left", "right": "right", "config": config}],
            "sink": [file_sink("joined", "j"), file_sink("late", "j.late")]}
        if fallback:
            job["stores"] = {"table": {"type": "Embedded", "config": {"load": "table.jsonl", "key": "{{uid}}/{{k}}"}}}
            config["fallback"] = "table"
        if unmatched == "port":
            job["sink"].append(file_sink("unmatched", "j.unmatched"))
        return write_job(tmp, job)


def conserved(case, run, unmatched):
    j = part(run, "j")
    c = collections.Counter(j["counters"])
    assert j["inputs"][:2] == [len(case.ls), len(case.rs)]
    assert c["left"] == len(case.ls) == c["matched"] + c["by_fallback"] + c["unmatched"]
    assert c["retried"] == 0
    assert j["dropped"].get("unmatched", 0) == (c["unmatched"] if unmatched == "drop" else 0)
    assert j["ports"].get("unmatched", 0) == (c["unmatched"] if unmatched == "port" else 0)
    assert j["ports"]["main"] == c["pairs"] + c["by_fallback"] + (c["unmatched"] if unmatched == "emit" else 0)
    adds_up(run)
    return j, c


JOINS = [(seed, matches, unmatched, fallback)
         for seed, (matches, unmatched, fallback) in enumerate([(m, u, f) for m in ("all", "first", "latest") for u in ("emit", "port", "drop") for f in (False, True)])]


def check_join(millrace, tmp, case, matches, unmatched, fallback, ways, **config):
    topology = case.job(tmp, matches, unmatched, fallback, **config)
    pairs = case.pairs()
    table = {(t["uid"], t["k"]): (t["r"], t["ts"]) for t in case.table} if fallback else {}
    for way in ways:
        run = millrace(topology, args=way)
        assert run.code == 0, run.err
        j, counters = conserved(case, run, unmatched)
        assert read(tmp / "out/late.jsonl") == [] and j["ports"]["late"] == 0 and read(tmp / "out/dead.jsonl") == []
        got, want = collections.Counter(), collections.Counter()
        for row in read(tmp / "out/joined.jsonl"):
            got[row["l"], row["r"], row["rts"]] += 1
        none, by_store = [], 0
        for l in case.ls:
            found = pairs[l["l"]]
            if found and matches == "first":
                # Which one is first is for the arrival to say.
                mine = [k for k in got if k[0] == l["l"]]
                assert len(mine) == 1 and mine[0][1:] in [(r, ts) for ts, _, _, r in found], (l, found, mine)
                want[mine[0]] += 1
            elif found:
                for ts, _, _, r in [max(found)] if matches == "latest" else found:
                    want[l["l"], r, ts] += 1
            elif (l.get("uid"), l["k"]) in table:
                want[(l["l"], *table[l["uid"], l["k"]])] += 1
                by_store += 1
            else:
                none.append(l)
                if unmatched == "emit":
                    want[l["l"], None, None] += 1
        assert got == want, (way, got - want, want - got)
        assert (counters["unmatched"], counters["by_fallback"]) == (len(none), by_store)
        if unmatched == "port":
            key = lambda r: r["l"]
            assert sorted(read(tmp / "out/unmatched.jsonl"), key=key) == sorted(({"uid": None, **l} if "uid" in l else l for l in none), key=key)
        if fallback:
            assert counters["lookups_saved"] == counters["matched"]


@pytest.mark.parametrize("seed, matches, unmatched, fallback", JOINS)
def test_join_equals_brute_force(millrace, tmp_path, seed, matches, unmatched, fallback):
    check_join(millrace, tmp_path, Clicks(seed), matches, unmatched, fallback, WAYS[seed % 5:seed % 5 + 1])


@pytest.mark.parametrize("seed, matches", list(enumerate(["all", "first", "latest"] * 3)))
def test_join_beyond_the_bound(millrace, tmp_path, seed, matches):
    """Rows later than the bound: no left row is lost or late, each pair is a true one, each right row is accounted for."""
    case = Clicks(1000 + seed, disorder_factor=8)
    case.bound = max(case.bound, 100)
    topology = case.job(tmp_path, matches, "port", fallback=False)
    pairs = case.pairs()
    run = millrace(topology, args=WAYS[seed % 5])
    assert run.code == 0, run.err
    j, counters = conserved(case, run, "port")
    rows = read(tmp_path / "out/joined.jsonl")
    got = collections.Counter((r["l"], r["r"]) for r in rows)
    assert not got or max(got.values()) == 1
    assert all(r in [x[3] for x in pairs[l]] for l, r in got)
    alone = collections.Counter(r["l"] for r in read(tmp_path / "out/unmatched.jsonl"))
    joined = {l for l, _ in got}
    assert all(alone[l["l"]] == (0 if l["l"] in joined else 1) for l in case.ls)
    if matches != "all":
        assert len(got) == len(joined)
    late = [r["r"] for r in read(tmp_path / "out/late.jsonl")]
    assert len(set(late)) == len(late) == j["ports"]["late"] and not set(late) & {r for _, r in got}
    if matches == "all":
        assert len({r for _, r in got}) + len(late) + j["dropped"].get("right_unmatched", 0) == len(case.rs)
    # What is on time within its own partition finds all its partners that are, whatever the others do.
    if matches == "all":
        on_time_l, on_time_r = on_time(case.left, case.bound, "l"), on_time(case.right, case.bound, "r")
        missing = [(l, x[3]) for l in on_time_l for x in pairs[l] if x[3] in on_time_r and (l, x[3]) not in got]
        assert not missing


def on_time(files, bound, name):
    """Ids of the rows that are above their partition's watermark when they come."""
    out = set()
    for rows in files:
        greatest = None
        for r in rows:
            if greatest is None or r["ts"] >= greatest - bound:
                out.add(r[name])
            greatest = max(r["ts"], greatest or r["ts"])
    return out


@pytest.mark.parametrize("way", WAYS[:3])
def test_rows_ahead_of_the_other_side_wait(millrace, tmp_path, way):
    """A large side and a tiny one, hours apart at the start: the files are read together in event-time step, nothing is late."""
    rng = random.Random(5)
    case = Clicks(1)
    case.bound, case.lower, case.upper = 1_000, -10_000, 2_000
    hour = 3_600_000
    right = [(ts, {"r": i, "k": 1, "ts": ts, "uid": f"u{rng.randrange(50)}"}) for i in range(60_000) for ts in [BASE - hour + i * 120]]
    left = [(ts, {"l": i, "k": 1, "ts": ts, "uid": f"u{rng.randrange(50)}"}) for i in range(40) for ts in [BASE + i * 90_000]]
    case.left, case.right = dealt(rng, left, 1, 1_000), dealt(rng, right, 3, 1_000)
    case.ls, case.rs = [r for f in case.left for r in f], [r for f in case.right for r in f]
    check_join(millrace, tmp_path, case, "all", "port", False, [way])


def test_join_retries_in_state(millrace, tmp_path):
    """Rows that the store does not have are asked for again; none is lost or counted twice."""
    case = Clicks(3)
    topology = case.job(tmp_path, "all", "port", True, retry={"delay": "50ms", "max_attempts": 2})
    case.pairs()
    for way in (("--workers", 2), ("--workers", 1, "--roundtrip-state")):
        run = millrace(topology, args=way)
        assert run.code == 0, run.err
        j, c = conserved(case, run, "port")
        assert c["lookups"] >= c["by_fallback"] + c["unmatched"] - c["without_store_key"]
        alone = collections.Counter(r["l"] for r in read(tmp_path / "out/unmatched.jsonl"))
        assert not alone or max(alone.values()) == 1


@pytest.mark.parametrize("seed", range(2))
def test_rows_of_a_retry_stream_count_apart(millrace, tmp_path, seed):
    case, rng = Clicks(seed), random.Random(seed)
    job = json.loads(case.job(tmp_path, "all", "port", True).read_text())
    retried = [{"l": 10_000 + i, "k": rng.choice([1, 2, 3]), "ts": BASE + rng.randrange(100_000), "uid": f"u{rng.randrange(60)}"} for i in range(150)]
    jsonl(tmp_path / "again.jsonl", retried)
    job["streams"]["again"] = {"config": {"role": "retry", "source": {"type": "File", "config": {"path": "again.jsonl"}}}}
    job["transforms"][0]["retry"] = "again"
    table = {(t["uid"], t["k"]): t["r"] for t in case.table}
    hits = {r["l"]: table[r["uid"], r["k"]] for r in retried if (r["uid"], r["k"]) in table}
    for way in (WAYS[0], WAYS[4]):
        run = millrace(write_job(tmp_path, job), args=way)
        assert run.code == 0, run.err
        c = collections.Counter(part(run, "j")["counters"])
        assert c["left"] == len(case.ls) == c["matched"] + c["by_fallback"] + c["unmatched"]
        assert (c["retried"], c["retried_by_fallback"], c["retried_unmatched"]) == (150, len(hits), 150 - len(hits))
        assert {r["l"]: r["r"] for r in read(tmp_path / "out/joined.jsonl") if r["l"] >= 10_000} == hits
        assert sorted(r["l"] for r in read(tmp_path / "out/unmatched.jsonl") if r["l"] >= 10_000) == [r["l"] for r in retried if r["l"] not in hits]


@pytest.mark.parametrize("seed, matches", list(enumerate(["all", "first", "latest"])))
def test_a_window_behind_a_join_gets_every_row_in_time(millrace, tmp_path, seed, matches):
    """The join's watermark stays below each row that waits, so nothing that it gives is late."""
    job = json.loads(Clicks(seed + 30).job(tmp_path, matches, "emit", seed == 1).read_text())
    job["transforms"] += [{"type": "KeyBy", "name": "by_k", "input": "j", "config": {"keys": ["k"]}},
                          {"type": "CountWindowWithTimeOut", "name": "w", "config": {"count": 5, "timeout": "3s"}}]
    job["sink"] += [file_sink("windows", "w"), file_sink("window_late", "w.late")]
    for way in WAYS:
        run = millrace(write_job(tmp_path, job), args=way)
        assert run.code == 0, run.err
        key = lambda r: (str(r["l"]), str(r["r"]))
        found = read(tmp_path / "out/windows.jsonl")
        assert sorted(key(r) for w in found for r in w["rows"]) == sorted(map(key, read(tmp_path / "out/joined.jsonl")))
        assert read(tmp_path / "out/window_late.jsonl") == []
        for w in found:
            rows = w["rows"]
            assert all(r["ts"] <= w["window_start"] + 3_000 for r in rows) and (w["why"] == "count") == (len(rows) == 5)
            assert (rows[0]["ts"], rows[-1]["ts"]) == (w["window_start"], w["window_last"])


# --- count window -------------------------------------------------------------------------------------------------------------------

AGGREGATES = {"n": "count(*)", "nv": "count(v)", "sv": "sum(v)", "lo": "min(v)", "hi": "max(v)", "mean": "avg(v)", "head": "first(v)",
              "tail": "last(v)", "kinds": "count(distinct s)", "money": "sum(d)", "least": "min(d)", "ms": "max(s)"}


def aggregated(rows):
    v = [r["v"] for r in rows if r.get("v") is not None]
    d = [Decimal(r["d"]) for r in rows if r.get("d") is not None]
    s = [r["s"] for r in rows if r.get("s") is not None]
    pick = lambda f, values: f(values) if values else None
    return {"n": len(rows), "nv": len(v), "sv": pick(sum, v), "lo": pick(min, v), "hi": pick(max, v), "mean": sum(v) / len(v) if v else None,
            "head": pick(lambda x: x[0], v), "tail": pick(lambda x: x[-1], v), "kinds": len(set(s)), "money": pick(sum, d), "least": pick(min, d),
            "ms": pick(max, s)}


def windows(files, key, count, timeout, bound):
    """The definition: (key, start, last, why, rows) of each window, and the late rows."""
    done, open_, late = [], {}, []

    def close(k, why):
        t0, rows = open_.pop(k)
        done.append((k, t0, rows[-1]["ts"], why, rows))

    for rows in files:
        greatest = None
        for r in rows:
            behind = greatest is not None and r["ts"] < greatest - bound
            greatest = max(r["ts"], greatest or r["ts"])
            if behind:
                late.append(r)
                continue
            k = key(r)
            if k in open_ and r["ts"] > open_[k][0] + timeout:
                close(k, "timeout")
            open_.setdefault(k, (r["ts"], []))[1].append(r)
            if len(open_[k][1]) == count:
                close(k, "count")
    for k in list(open_):
        close(k, "timeout")
    return done, late


def window_case(seed):
    """Random rows, each key in one file; some files disordered beyond the bound."""
    rng = random.Random(seed)
    bound, count, timeout = rng.choice([0, 300, 2_000]), rng.choice([1, 2, 3, 10, 1_000]), rng.choice([1, 1_000, 5_000, 60_000])
    partitions, keys = rng.randint(1, 4), rng.choice([1, 5, 40])
    step = rng.choice([1, 100, 1_000])
    files = [[] for _ in range(partitions)]
    rows = []
    for i in range(rng.choice([0, 1, 300, 1_500])):
        key = rng.randrange(keys)
        ts = BASE + rng.randrange(rng.choice([10_000, 300_000])) // step * step
        row = {"i": i, "k": f"k{key}", "g": key % 3 if key % 4 else None, "ts": ts, "s": rng.choice(["a", "b", "\u4e2d", None]),
               "v": rng.choice([None, rng.randint(-1000, 1000)]), "d": rng.choice([None, str(Decimal(rng.randint(-10**9, 10**9)) / 100)])}
        rows.append((ts, key % partitions, {k: v for k, v in row.items() if v is not None or rng.random() < 0.5}))
    jitter = int(bound * rng.choice([0.5, 1, 3]))
    for ts, p, row in sorted(rows, key=lambda r: r[0] + rng.randint(0, jitter)):
        files[p].append(row)
    return bound, count, timeout, files


FIELDS = {"i": "bigint", "k": "string", "g": "bigint", "ts": "bigint", "s": "string", "v": "bigint", "d": "decimal(20,2)"}


def parsed(path):
    return [json.loads(line, parse_float=Decimal) for line in path.read_text().splitlines()]


def close_enough(row):
    """Doubles are compared by value, all else exactly."""
    return tuple(sorted((k, float(v) if k == "mean" and v is not None else v) for k, v in row.items() if k != "rows")) + (json.dumps(row.get("rows"), sort_keys=True, default=str),)


def check_windows(millrace, tmp, seed, ways):
    bound, count, timeout, files = window_case(seed)
    for i, rows in enumerate(files):
        jsonl(tmp / f"in/{i}.jsonl", rows)
    listed = seed % 3 == 2
    config = {"count": count, "timeout": f"{timeout}ms", **({} if listed else {"aggregates": AGGREGATES})}
    job = {"streams": {"s": stream("in/*.jsonl", FIELDS, bound)},
           "transforms": [{"type": "KeyBy", "config": {"keys": ["k", "g"]}}, {"type": "CountWindowWithTimeOut", "name": "w", "config": config}],
           "sink": [file_sink("windows", "w"), file_sink("late", "w.late")]}
    topology = write_job(tmp, job)
    done, late = windows(files, lambda r: (r["k"], r.get("g")), count, timeout, bound)
    want = collections.Counter()
    for (k, g), start, last, why, rows in done:
        row = {"k": k, "g": g, "window_start": start, "window_last": last, "why": why}
        if listed:
            fields = [{f: Decimal(r[f]).quantize(Decimal("0.01")) if f == "d" and r[f] is not None else r[f] for f in FIELDS if f in r} for r in rows]
            row["rows"] = fields
        else:
            row.update(aggregated(rows))
        want[close_enough(row)] += 1
    for way in ways:
        run = millrace(topology, args=way)
        assert run.code == 0, run.err
        got = collections.Counter(close_enough({"g": None, **r}) for r in parsed(tmp / "out/windows.jsonl"))
        assert got == want, (way, got - want, want - got)
        assert sorted(r["i"] for r in read(tmp / "out/late.jsonl")) == sorted(r["i"] for r in late)
        w = part(run, "w")
        n = collections.Counter(x[3] for x in done)
        c = collections.Counter(w["counters"])
        assert (c["closed_by_count"], c["closed_by_timeout"]) == (n["count"], n["timeout"])
        assert w["ports"] == {"main": len(done), "late": len(late), "errors": 0} or w["ports"] == {"main": len(done), "late": len(late)}
        adds_up(run)


@pytest.mark.parametrize("seed", range(12))
def test_windows_equal_their_definition(millrace, tmp_path, seed):
    check_windows(millrace, tmp_path, seed, [WAYS[seed % 5]])


@pytest.mark.parametrize("seed", range(4))
def test_windows_over_a_union(millrace, tmp_path, seed):
    """Two streams a day apart, with fields in another order: the union's watermark is the least, so nothing is late."""
    rng = random.Random(seed)
    files = []
    for name, start, count in (("a", BASE, 900), ("b", BASE + 86_400_000, 30)):
        rows = [(ts, {"i": i, "k": f"{name}{i % 3}", "ts": ts, "v": i}) for i in range(count) for ts in [start + rng.randrange(60_000)]]
        files += dealt(rng, rows, 1, 700)
        jsonl(tmp_path / f"{name}.jsonl", files[-1])
    fields = {"i": "bigint", "k": "string", "ts": "bigint", "v": "bigint"}
    job = {"streams": {"a": stream("a.jsonl", fields, 700), "b": stream("b.jsonl", dict(reversed(fields.items())), 700)},
           "transforms": [{"type": "Union", "name": "u", "input": ["b", "a"]}, {"type": "Filter", "config": {"where": "v % 7 <> 0"}}, {"type": "KeyBy", "config": {"keys": ["k"]}},
                          {"type": "CountWindowWithTimeOut", "name": "w", "config": {"count": 4, "timeout": "3s"}}],
           "sink": [file_sink("windows", "w")]}
    done, late = windows([[r for r in f if r["v"] % 7] for f in files], lambda r: r["k"], 4, 3_000, 700)
    want = sorted((k, start, last, why, [r["i"] for r in rows]) for k, start, last, why, rows in done)
    assert late == []
    for way in WAYS:
        run = millrace(write_job(tmp_path, job), args=way)
        assert run.code == 0, run.err
        got = sorted((r["k"], r["window_start"], r["window_last"], r["why"], [x["i"] for x in r["rows"]]) for r in read(tmp_path / "out/windows.jsonl"))
        assert got == want, way
        adds_up(run)
