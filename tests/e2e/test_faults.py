"""kill -9 of Kafka and of HBase under load, with look-ups in flight, and of the jobs themselves: nothing is lost.

At least once: every row that must come out is there; a row may be there twice. `--chaos`: five seeds each, 20 s away."""
import collections
import hashlib
import json
import random
import threading
import time

import happybase
import pytest
from confluent_kafka import KafkaException

import oracle
import servers
import topics
from conftest import ROOT

RATE = 20_000  # records/s offered, both topics together


def load(seed, clicks):
    """Clicks and exposures in arrival order; what only the store has; what must come out.

    Event time runs six times as fast as the clock, so that look-ups begin within the first seconds."""
    rng = random.Random(seed)
    base = int(time.time() * 1000)
    exposures, lines, stored, pairs, orphans = [], [], [], {}, set()
    for i in range(clicks):
        uid, mid, ts = f"u{rng.randrange(5000)}", f"m{seed}-{i}", base + i // 2
        case = rng.random()
        if case < 0.7:
            exposures.append((uid, json.dumps({"uid": uid, "mid": mid, "ts": ts - rng.randint(0, 3000), "pos": i % 97})))
            pairs[mid] = i % 97
        elif case < 0.85:
            stored.append((uid, mid, ts - 60_000, i % 89))
            pairs[mid] = i % 89
        else:
            orphans.add(mid)
        lines.append((uid, f"{uid}\t{mid}\tios\t{ts}\t0.10"))
    return exposures, lines, stored, pairs, orphans


def fill(hbase, table, stored):
    connection = happybase.Connection("127.0.0.1", hbase.port, timeout=60_000)
    with connection.table(table).batch(batch_size=1000) as batch:
        for uid, mid, ts, pos in stored:
            salt = hashlib.md5(mid.encode()).hexdigest()[:2]
            batch.put(f"{salt}_{uid}_{mid}", {b"d:pos": str(pos).encode(), b"d:ts": str(ts).encode()})
    connection.close()


def offer(kafka, topic, rows, seconds):
    """Produces the rows evenly over `seconds`; waits for a broker that is away."""
    from confluent_kafka import Producer
    producer = Producer({"bootstrap.servers": kafka.address, "acks": "all", "enable.idempotence": True, "message.timeout.ms": 0,
                         "queue.buffering.max.messages": 2_000_000, "reconnect.backoff.max.ms": 500})
    start, step = time.time(), max(1, len(rows) // max(1, int(seconds * 20)))
    for i in range(0, len(rows), step):
        for key, value in rows[i:i + step]:
            producer.produce(topic, key=key, value=value)
        producer.poll(0)
        time.sleep(max(0, start + (i + step) / len(rows) * seconds - time.time()))
    assert producer.flush(180) == 0


@pytest.mark.parametrize("victim", ["kafka", "hbase"])
def test_kill_under_load(victim, kafka, hbase, prefix, millrace, chaos):
    for seed in range(chaos or 1):
        away, seconds = (20, 30) if chaos else (4, 8)
        one_kill(victim, kafka, hbase, f"{prefix}{seed}-", millrace, seed, away, seconds)


def one_kill(victim, kafka, hbase, prefix, millrace, seed, away, seconds):
    exposures, clicks, stored, pairs, orphans = load(seed, RATE * seconds * 10 // 17)
    names = ["clicks", "exposures", "clicks-retry", "joined", "clicks-unmatched", "dead-letter"]
    topics.create(kafka, *[prefix + n for n in names])
    table = prefix + "exposures"
    servers.hbase_table(hbase, table, "d", [f"{i:02x}" for i in range(16, 256, 16)])
    fill(hbase, table, stored)
    job = millrace(ROOT / "topologies/exposure-click/topology.yaml",
                   {"BROKERS": kafka.address, "HBASE": hbase.address, "PREFIX": prefix, "TABLE": table, "WORKERS": "2", "RETRY_DELAY": "1s", "MAX_ATTEMPTS": "1"},
                   wait=False)
    offers = [threading.Thread(target=offer, args=(kafka, prefix + t, rows, seconds)) for t, rows in (("clicks", clicks), ("exposures", exposures))]
    for t in offers:
        t.start()
    time.sleep(seconds * 0.4)
    server = kafka if victim == "kafka" else hbase
    server.kill()
    time.sleep(away)
    assert job.process.poll() is None, "the job must outlive the outage: " + job.err_file.read_text()[-3000:]
    server.start()
    for t in offers:
        t.join()
    settle(kafka, prefix, len(pairs) + len(orphans), job)
    run = job.stop(120)
    assert run.code == 0, run.err
    store = run.summary["stores"][0]
    assert store["lookups"] > 0 and (store["errors"] > 0) >= (victim == "hbase"), store

    got, seen = collections.Counter(), set()
    for m in topics.read(kafka, prefix + "joined"):
        r = json.loads(m.value())
        assert pairs.get(r["mid"]) == r["pos"], f"a row that must not be: {r}"
        got[r["mid"]] += 1
    for t in ("clicks-unmatched", "clicks-retry"):
        seen |= {json.loads(m.value())["mid"] for m in topics.read(kafka, prefix + t)}
    missing, lost = set(pairs) - set(got), orphans - seen
    twice = sum(n - 1 for n in got.values())
    print(f"{victim} seed {seed}: {len(pairs)} pairs, missing {len(missing)}, twice {twice}; {len(orphans)} orphans, lost {len(lost)}")
    assert not missing and not lost, (sorted(missing)[:5], sorted(lost)[:5])
    rejected = collections.Counter(json.loads(m.value())["reason"] for m in topics.read(kafka, prefix + "dead-letter"))
    assert not rejected, rejected


def settle(kafka, prefix, want, job):
    """Waits until the outputs have as many rows as they must, at least, or have stopped growing: the rest comes out when the job is stopped."""
    from confluent_kafka import Consumer, TopicPartition
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "watch"})
    total, since, deadline = -1, time.time(), time.time() + 240
    while time.time() < deadline:
        now = sum(topics.watermarks(consumer, TopicPartition(prefix + t, p))[1] for t in ("joined", "clicks-unmatched") for p in range(3))
        if now != total:
            total, since = now, time.time()
        if (total >= want and time.time() - since > 3) or time.time() - since > 8 or job.process.poll() is not None:
            break
        time.sleep(0.5)
    consumer.close()


COPY = """
name: copy
run_env: {state_dir: state, parallelism: 2}
streams:
  in:
    config:
      source: {type: Kafka, config: {brokers: "${BROKERS}", topics: ["${PREFIX}in"], group: "${PREFIX}copy"}}
sink:
  - {type: Kafka, config: {brokers: "${BROKERS}", topic: "${PREFIX}out", key: "{{_key}}", format: text, template: "{{_value}}"}}
"""


def test_job_killed_under_load(kafka, prefix, millrace, tmp_path):
    """A copy killed twice with -9 and stopped once goes on where its sinks had acknowledged: nothing missing, keys in order."""
    topics.create(kafka, prefix + "in", prefix + "out")
    seconds, rows = 8, [(f"k{i % 500}", str(i)) for i in range(RATE * 8)]
    file = tmp_path / "copy.yaml"
    file.write_text(COPY)
    env = {"BROKERS": kafka.address, "PREFIX": prefix}
    offering = threading.Thread(target=offer, args=(kafka, prefix + "in", rows, seconds))
    offering.start()
    for _ in range(2):
        job = millrace(file, env, wait=False)
        time.sleep(seconds / 4)
        assert job.process.poll() is None, job.err_file.read_text()
        job.process.kill()
        job.process.wait()
    job = millrace(file, env, wait=False)
    time.sleep(seconds / 4)
    stopped = job.stop()
    assert stopped.code == 0, stopped.err
    offering.join()
    before = {m.value() for m in topics.read(kafka, prefix + "out")}
    rest = millrace(file, env, ["--set", "streams.in.config.source.config.bounded=true"])
    assert rest.code == 0, rest.err
    assert rest.summary["in"] == len(rows) - len(before), "a clean stop commits exactly what is written"
    copied = topics.read(kafka, prefix + "out")
    newest, twice = collections.defaultdict(lambda: -1), 0
    seen = set()
    for m in copied:
        key, n = m.key().decode(), int(m.value())
        assert key == f"k{n % 500}"
        if n in seen:
            twice += 1
            continue
        seen.add(n)
        assert n > newest[key], f"{key}: {n} comes behind {newest[key]}"
        newest[key] = n
    print(f"job killed twice: {len(rows)} rows, missing {len(rows) - len(seen)}, twice {twice}")
    assert len(seen) == len(rows)


def scan(hbase, table):
    connection = happybase.Connection("127.0.0.1", hbase.port, timeout=60_000)
    rows = list(connection.table(table).scan(batch_size=5000))
    connection.close()
    return rows


def wait_for_rows(hbase, table, least, seconds=60):
    end = time.time() + seconds
    while (count := len(scan(hbase, table))) < least and time.time() < end:
        time.sleep(0.1)
    return count


def test_store_job_outlives_hbase_and_itself(kafka, hbase, prefix, millrace):
    """exposure-store while HBase is killed, then killed itself: every exposure is in the table."""
    topics.create(kafka, prefix + "exposures")
    rows = [(f"u{i % 1000}", json.dumps({"uid": f"u{i % 1000}", "mid": f"m{i}", "ts": 1_700_000_000_000 + i, "pos": i % 97})) for i in range(40_000)]
    table = prefix + "exposures"
    servers.hbase_table(hbase, table, "d", [f"{i:02x}" for i in range(16, 256, 16)])
    env = {"BROKERS": kafka.address, "HBASE": hbase.address, "PREFIX": prefix, "TABLE": table, "WORKERS": "2"}
    topology = ROOT / "topologies/exposure-store/topology.yaml"
    job = millrace(topology, env, wait=False)
    offering = threading.Thread(target=offer, args=(kafka, prefix + "exposures", rows, 6))
    offering.start()
    wait_for_rows(hbase, table, 2_000)
    hbase.kill()
    time.sleep(3)
    assert job.process.poll() is None, job.err_file.read_text()
    hbase.start()
    wait_for_rows(hbase, table, wait_for_rows(hbase, table, 0) + 10_000)
    job.process.kill()
    job.process.wait()
    offering.join()
    run = millrace(topology, env, ["--set", "streams.imps.config.source.config.bounded=true"])
    assert run.code == 0, run.err
    stored = {key.split(b"_")[2]: (cells[b"d:pos"], cells[b"d:ts"]) for key, cells in scan(hbase, table)}
    want = {f"m{i}".encode(): (str(i % 97).encode(), str(1_700_000_000_000 + i).encode()) for i in range(len(rows))}
    print(f"store job: {len(rows)} rows, missing {len(want) - len(stored)}, the last start read {run.summary['in']}")
    assert stored == want


def read(kafka, topic):
    """A topic's messages; None before its partitions have found their leaders."""
    try:
        return topics.read(kafka, topic)
    except KafkaException:
        return None


@pytest.mark.parametrize("victim", ["kafka", "hbase"])
def test_what_a_server_that_stays_away_did_not_take_is_lost(victim, kafka, hbase, prefix, millrace, tmp_path):
    """The end of a job does not wait for ever: rows that the server never acknowledged are counted, and the exit code is 5."""
    name = prefix + "gone"
    if victim == "kafka":
        topics.create(kafka, name)
        sink, count = '{type: Kafka, config: {brokers: "${BROKERS}", topic: "${NAME}", close_timeout: 2s}}', lambda: len(m) if (m := read(kafka, name)) is not None else -1
    else:
        servers.hbase_table(hbase, name, "d")
        sink, count = '{type: HBase, config: {thrift: "${HBASE}", table: "${NAME}", key: "{{id}}", family: d, close_timeout: 2s}}', lambda: len(scan(hbase, name))
    file, lines = tmp_path / "gone.yaml", tmp_path / "in.jsonl"
    file.write_text("""
name: gone
run_env: {state_dir: state}
streams:
  in:
    config:
      source: {type: File, config: {path: in.jsonl, mode: follow, start: beginning}}
      operates: [{type: StringToMap, config: {fields: {id: string}}}]
sink:
  - %s
  - {type: File, config: {path: read.jsonl}}
""" % sink)

    def wait(what):
        end = time.time() + 60
        while not what() and time.time() < end:
            time.sleep(0.1)
        assert what(), job.err_file.read_text()

    lines.write_text("".join(json.dumps({"id": f"a{i}"}) + "\n" for i in range(100)))
    job = millrace(file, {"BROKERS": kafka.address, "HBASE": hbase.address, "NAME": name}, wait=False)
    wait(lambda: count() == 100)
    server = {"kafka": kafka, "hbase": hbase}[victim]
    server.kill()
    try:
        with open(lines, "a") as f:
            f.write("".join(json.dumps({"id": f"b{i}"}) + "\n" for i in range(900)))
        wait(lambda: (tmp_path / "read.jsonl").read_text().count("\n") == 1000)
        run = job.stop()
    finally:
        server.start()
    assert run.code == 5, run.err
    assert (run.summary["in"], run.summary["lost"], run.summary["exit_code"], run.summary["ended"]) == (1000, 900, 5, "failed")
    assert "900 rows of" in run.err and "close_timeout" in run.err
    wait(lambda: count() >= 0)
    assert count() == 100
