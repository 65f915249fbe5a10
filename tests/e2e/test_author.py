"""`sample` and `tap` against a real broker: a test made of messages that are there, and rows of a running job."""
import json
import subprocess
import threading

import topics
from confluent_kafka import Consumer, TopicPartition
from conftest import BINARY

JOB = """
name: shop
run_env: {{time_characteristic: EventTime}}
streams:
  orders:
    config:
      source: {{type: Kafka, config: {{brokers: "{kafka}", topics: [{orders}], group: {group}, start: earliest}}}}
      operates:
        - {{type: StringToMap, config: {{format: json, fields: {{user: string, at: bigint, cents: bigint}}}}}}
        - {{type: Map, config: {{set: {{euros: cents / 100}}}}}}
      watermark: {{field: at, format: epoch_ms}}
transforms:
  - {{type: SplitStream, name: by_price, config: {{ports: {{dear: cents >= 500}}, rest: port}}}}
  - {{type: KeyBy, name: by_user, input: by_price.dear, config: {{keys: [user]}}}}
  - {{type: CountWindowWithTimeOut, name: counts, config: {{count: 3, timeout: 1h, aggregates: {{n: count(*), cents: sum(cents)}}}}}}
sink:
  - {{type: Kafka, name: out, input: counts, config: {{brokers: "{kafka}", topic: {out}}}}}
  - {{type: Null, name: cheap, input: by_price.rest}}
"""
ROWS = 40
START = 1_700_000_000_000


def millrace(*args, cwd, timeout=60):
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=timeout, cwd=cwd)


def job(kafka, prefix, tmp_path):
    orders, out, group = (prefix + n for n in ("orders", "out", "group"))
    topics.create(kafka, orders, out, partitions=2)
    rows = [{"user": f"u{i % 3}", "at": START + i, "cents": i * 100 % 1000} for i in range(ROWS)]
    messages = [(r["user"], json.dumps(r), i % 2) for i, r in enumerate(rows)]
    messages.insert(5, ("u0", "no JSON", 0))
    topics.produce(kafka, orders, messages)
    (tmp_path / "shop.yaml").write_text(JOB.format(kafka=kafka.address, orders=orders, out=out, group=group))
    return orders, out, group


def committed(kafka, group, topic):
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": group})
    found = [p.offset for p in consumer.committed([TopicPartition(topic, p) for p in range(2)], 30)]
    consumer.close()
    return found


def test_a_sample_of_real_messages_is_a_test_that_passes(kafka, prefix, tmp_path):
    orders, out, group = job(kafka, prefix, tmp_path)
    before = (tmp_path / "shop.yaml").read_text()
    done = millrace("sample", "shop.yaml", "--stream", "orders", "-n", "20", "--write", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = (tmp_path / "shop.yaml").read_text()
    assert after.startswith(before.rstrip("\n")) and "tests:" in after[len(before.rstrip()):], after
    # Twenty messages, with what the source knows of them; the one that is no JSON is an expectation like the others.
    tests = millrace("test", "shop.yaml", cwd=tmp_path)
    assert tests.returncode == 0, tests.stdout + tests.stderr + after
    assert "1 test holds" in tests.stdout, tests.stdout
    assert "no JSON" in after, after
    assert millrace("lint", "shop.yaml", cwd=tmp_path).returncode == 0

    # It holds what the job does: another job does not pass it.
    (tmp_path / "shop.yaml").write_text(after.replace("count: 3, timeout", "count: 2, timeout"))
    assert millrace("test", "shop.yaml", cwd=tmp_path).returncode == 7

    # Nothing was moved: no offset is committed, nothing written.
    assert all(offset < 0 for offset in committed(kafka, group, orders))
    assert topics.read(kafka, out) == []


def test_tap_shows_what_passes(kafka, prefix, tmp_path):
    orders, _, _ = job(kafka, prefix, tmp_path)
    running = subprocess.Popen([BINARY, "run", "shop.yaml"], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    over = threading.Event()

    def feed():
        n = ROWS
        while not over.is_set():
            topics.produce(kafka, orders, [(f"u{i % 3}", json.dumps({"user": f"u{i % 3}", "at": START + i, "cents": i * 100 % 1000}), i % 2)
                                           for i in range(n, n + 20)])
            n += 20

    feeder = threading.Thread(target=feed)
    try:
        while millrace("status", "shop.yaml", cwd=tmp_path).returncode != 0:
            assert running.poll() is None, running.stderr.read()
        feeder.start()
        for args, holds in (
            (["orders"], lambda r: r["euros"] * 100 == r["cents"]),
            (["by_price.dear"], lambda r: r["cents"] >= 500),
            (["by_user", "--where", "user = 'u1' and cents > 600"], lambda r: r["user"] == "u1" and r["cents"] > 600),
            (["counts"], lambda r: r["n"] == 3),
        ):
            done = millrace("tap", "shop.yaml", *args, "-n", "5", "--json", cwd=tmp_path)
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert done.returncode == 0 and len(rows) == 5, (args, done.stdout, done.stderr)
            assert all(holds(r) for r in rows), (args, rows)
        wrong = millrace("tap", "shop.yaml", "by_price.deer", cwd=tmp_path)
        assert wrong.returncode != 0 and "dear" in wrong.stderr, wrong.stderr
    finally:
        over.set()
        if feeder.is_alive():
            feeder.join()
        running.terminate()
        running.wait(60)
    assert running.returncode == 0, running.stderr.read()
