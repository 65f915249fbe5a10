"""The whole job: two topics in, HBase behind the join, Kafka out, retry topic, dead letters; every row against the oracle."""
import collections
import json

import pytest

import oracle
import servers
import topics
from conftest import ROOT

BAD_CLICKS = ["u1\tm1", "u1\tm1\tios\tnot-a-time\t1.00", "", "u1\tm1\tios\t1700000000000\t1.2.3", b"u\xff\tm1\tios\t1700000000000\t1.00",
              "u1\tm1\tios\t253370764800000\t1.00"]
BAD_EXPOSURES = ["{", '{"uid":"u1","mid":"m1","ts":"soon","pos":1}', "[1,2]", '{"uid":"u1"} trailing', "[" * 10_000, b'{"uid":"\xff"}', ""]
SPLITS = [f"{i:02x}" for i in range(16, 256, 16)]


@pytest.fixture(scope="module")
def logs():
    return oracle.ad_logs(seed=1, clicks=6_000)


def run_all(kafka, hbase, prefix, millrace, logs, workers):
    exposures, clicks, e_rows, c_rows = logs
    e_rows = oracle.with_bad(e_rows, BAD_EXPOSURES, 2)
    c_rows = oracle.with_bad(c_rows, BAD_CLICKS, 3)
    names = ["clicks", "exposures", "clicks-retry", "joined", "clicks-unmatched", "dead-letter"]
    topics.create(kafka, *[prefix + n for n in names])
    topics.produce(kafka, prefix + "exposures", e_rows)
    topics.produce(kafka, prefix + "clicks", c_rows)
    table = prefix + "exposures"
    servers.hbase_table(hbase, table, "d", SPLITS)
    env = {"BROKERS": kafka.address, "HBASE": hbase.address, "PREFIX": prefix, "TABLE": table, "WORKERS": str(workers),
           "RETRY_DELAY": "1s", "MAX_ATTEMPTS": "2"}
    bounded = "streams.{}.config.source.config.bounded=true".format
    store = millrace(ROOT / "topologies/exposure-store/topology.yaml", env, ["--set", bounded("imps")])
    assert store.code == 0, store.err
    run = millrace(ROOT / "topologies/exposure-click/topology.yaml", env,
                   [x for s in ("clicks", "imps") for x in ("--set", bounded(s))])
    assert run.code == 0, run.err
    return run, e_rows, c_rows


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_row(kafka, hbase, prefix, millrace, logs, tmp_path, workers):
    exposures, clicks, *_ = logs
    run, e_rows, c_rows = run_all(kafka, hbase, prefix, millrace, logs, workers)
    rows, unmatched, fallback = oracle.joined(exposures, clicks)

    got = collections.Counter(oracle.row_of(m.value()) for m in topics.read(kafka, prefix + "joined"))
    assert got == rows, f"missing {list((rows - got).items())[:3]}, unexpected {list((got - rows).items())[:3]}"
    assert all(m.key() == json.loads(m.value())["uid"].encode() for m in topics.read(kafka, prefix + "joined"))

    given_up = collections.Counter()
    for m in topics.read(kafka, prefix + "clicks-unmatched"):
        r = json.loads(m.value())
        given_up[r["uid"], r["mid"], r["ts"], r["plat"], r["cents"]] += 1
    assert given_up == unmatched

    # disorder stays inside the bound, so nothing is late, and every left row is accounted for
    join = next(p for p in run.summary["parts"] if p["name"] == "joined")
    count = join["counters"].get
    assert join["ports"]["late"] == 0
    assert count("left") == len(clicks) == count("matched") + count("by_fallback") + count("unmatched")
    assert count("by_fallback") == fallback and count("unmatched") == unmatched.total()

    # a window may be cut elsewhere in another run, its sums per mid may not
    sums, counts = collections.Counter(), collections.Counter()
    for line in (tmp_path / "out/counts.jsonl").read_text().splitlines():
        r = json.loads(line)
        sums[r["mid"]] += r["sum"]
        counts[r["mid"]] += r["n"]
        assert r["n"] <= 100 and r["why"] in ("count", "timeout")
    want_sums, want_counts = collections.Counter(), collections.Counter()
    for row, n in rows.items():
        want_sums[row[1]] += row[4] * n
        want_counts[row[1]] += n
    assert counts == want_counts and +sums == +want_sums

    # every bad record is a dead letter with its own bytes and position
    bad = collections.Counter(as_bytes(r[1]) for r in c_rows + e_rows if r[1] in BAD_CLICKS or r[1] in BAD_EXPOSURES)
    dead = [json.loads(m.value()) for m in topics.read(kafka, prefix + "dead-letter")]
    assert collections.Counter(body(d) for d in dead) == bad
    lies_at = {(f"{m.topic()}/{m.partition()}", m.offset()): m.value() for t in ("clicks", "exposures") for m in topics.read(kafka, prefix + t)}
    assert all(lies_at[d["partition"], d["offset"]] == body(d) for d in dead)
    assert all(d["reason"] and d["part"] for d in dead)
    assert all(d["length"] == len(body(d)) for d in dead)


def as_bytes(value):
    return value if isinstance(value, bytes) else value.encode()


def body(dead):
    import base64
    return base64.b64decode(dead["body"]) if dead.get("encoding") == "base64" else dead["body"].encode()
