"""kill -9 of Kafka and of HBase under load, with look-ups in flight: nothing is lost.

At least once: every row that must come out is there; a row may be there twice. `--chaos`: five seeds each, 20 s away."""
import collections
import hashlib
import json
import random
import threading
import time

import happybase
import pytest

import oracle
import servers
import topics
from conftest import ROOT

RATE = 20_000  # records/s offered, both topics together


def load(seed, clicks):
    """Clicks and exposures in arrival order with times as if they happened now; what only the store has; what must come out."""
    rng = random.Random(seed)
    base = int(time.time() * 1000)
    exposures, lines, stored, pairs, orphans = [], [], [], {}, set()
    for i in range(clicks):
        uid, mid, ts = f"u{rng.randrange(5000)}", f"m{seed}-{i}", base + i * 2000 // RATE
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
    for seed in range(5 if chaos else 1):
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
    assert not topics.read(kafka, prefix + "dead-letter")


def settle(kafka, prefix, want, job):
    """Waits until the outputs have as many rows as they must, at least, or have stopped growing for 20 s."""
    from confluent_kafka import Consumer, TopicPartition
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "watch"})
    total, since, deadline = -1, time.time(), time.time() + 240
    while time.time() < deadline:
        now = sum(consumer.get_watermark_offsets(TopicPartition(prefix + t, p), 30)[1] for t in ("joined", "clicks-unmatched") for p in range(3))
        if now != total:
            total, since = now, time.time()
        if (total >= want and time.time() - since > 3) or time.time() - since > 25 or job.process.poll() is not None:
            break
        time.sleep(0.5)
    consumer.close()
