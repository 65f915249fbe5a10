"""Sources, sinks and stores against the real servers, one promise a test."""
import collections
import json
import signal
import time

import happybase
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

import servers
import topics
from conftest import ROOT

COPY = """
name: copy
run_env: {{state_dir: state}}
streams:
  in:
    config:
      source: {{type: Kafka, config: {{brokers: "${{BROKERS}}", {source}}}}}
sink:
  - {{type: File, name: out, config: {{path: out.jsonl, on_exists: truncate, format: text, template: "{template}"}}}}
"""


def copy(millrace, tmp_path, kafka, source, template="{{_value}}", **kwargs):
    file = tmp_path / "copy.yaml"
    file.write_text(COPY.format(source=source, template=template))
    return millrace(file, {"BROKERS": kafka.address}, **kwargs)


def rows(tmp_path, name="out.jsonl"):
    file = tmp_path / name
    return file.read_text().splitlines() if file.exists() else []


def wait_for(test, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        if test():
            return True
        time.sleep(0.2)
    return False


def test_starts(kafka, prefix, millrace, tmp_path):
    topic = prefix + "starts"
    topics.create(kafka, topic, partitions=1)
    topics.produce(kafka, topic, [("k", str(i)) for i in range(5)])
    time.sleep(1.1)
    middle = int(time.time() * 1000)
    topics.produce(kafka, topic, [("k", str(i)) for i in range(5, 10)])
    for start, first in [("earliest", 0), (f"committed, group: {prefix}g", 0), (f"{{timestamp: {middle}}}", 5), (f"{{offsets: {{{topic}/0: 7}}}}", 7), ("latest", 10)]:
        run = copy(millrace, tmp_path, kafka, f"topics: [{topic}], start: {start}, bounded: true")
        assert run.code == 0, run.err
        assert rows(tmp_path) == [str(i) for i in range(first, 10)], start


@pytest.mark.parametrize("ended", [True, False])
def test_a_bounded_read_waits_for_transactions_that_are_under_way(kafka, prefix, millrace, tmp_path, ended):
    topic = prefix + "transactions"
    topics.create(kafka, topic, partitions=1)
    topics.produce(kafka, topic, [("k", "before")])
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": prefix + "writer"})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, "within")
    assert producer.flush(60) == 0
    job = copy(millrace, tmp_path, kafka, f"topics: [{topic}], start: earliest, bounded: true", wait=False)
    if ended:
        # Usually before it has looked, sometimes after.
        time.sleep(0.3)
        producer.commit_transaction(60)
    run = job.wait()
    assert run.code == 0, run.err
    assert rows(tmp_path) == ["before", "within"][:1 + ended]
    assert ended or "a transaction that nobody has ended hides the messages from offset 1 on" in run.err, run.err
    if not ended:
        producer.abort_transaction(60)


def test_committed_offsets_go_on(kafka, prefix, millrace, tmp_path):
    topic = prefix + "committed"
    topics.create(kafka, topic, partitions=2)
    seen = []
    for i in range(3):
        topics.produce(kafka, topic, [(str(k), f"{i}-{k}", k % 2) for k in range(100)])
        run = copy(millrace, tmp_path, kafka, f"topics: [{topic}], group: {prefix}g, bounded: true")
        assert run.code == 0, run.err
        assert sorted(rows(tmp_path)) == sorted(f"{i}-{k}" for k in range(100))
        seen += rows(tmp_path)
    assert len(set(seen)) == 300


def test_patterns_metadata_and_new_partitions(kafka, prefix, millrace, tmp_path):
    names = [prefix + n for n in ("logs-a", "logs-b", "other")]
    topics.create(kafka, *names, partitions=1)
    for n in names:
        topics.produce(kafka, n, [("key", n)])
    job = copy(millrace, tmp_path, kafka, f'topics: ["^{prefix}logs-.*"], start: earliest, discovery_interval: 500ms', "{{_topic}}/{{_partition}}/{{_offset}}/{{_key}}", wait=False)
    assert wait_for(lambda: len(rows(tmp_path)) == 2), job.err_file.read_text()
    topics.create(kafka, prefix + "logs-c", partitions=1)
    topics.produce(kafka, prefix + "logs-c", [("key", "c")])
    admin = AdminClient({"bootstrap.servers": kafka.address})
    for f in admin.create_partitions([NewPartitions(names[0], 2)]).values():
        f.result(30)
    topics.produce(kafka, names[0], [("k1", "second", 1)])
    assert wait_for(lambda: len(rows(tmp_path)) == 4), rows(tmp_path)
    run = job.stop()
    assert run.code == 0, run.err
    assert sorted(rows(tmp_path)) == sorted([f"{names[0]}/0/0/key", f"{names[1]}/0/0/key", f"{prefix}logs-c/0/0/key", f"{names[0]}/1/0/k1"])


def test_lost_offset(kafka, prefix, millrace, tmp_path):
    topic = prefix + "lost"
    topics.create(kafka, topic, partitions=1)
    topics.produce(kafka, topic, [("k", str(i)) for i in range(10)])
    start = f"topics: [{topic}], start: {{offsets: {{{topic}/0: 500}}}}, bounded: true"
    run = copy(millrace, tmp_path, kafka, start)
    assert run.code in (3, 4) and topic in run.err, run.err
    run = copy(millrace, tmp_path, kafka, start + ", on_offset_lost: earliest")
    assert run.code == 0 and rows(tmp_path) == [str(i) for i in range(10)], run.err


def test_missing_topic_is_one_sentence(kafka, prefix, millrace, tmp_path):
    run = copy(millrace, tmp_path, kafka, f"topics: [{prefix}nowhere]")
    assert run.code == 3 and f"{prefix}nowhere" in run.err, run.err
    assert "panicked" not in run.err


SECURE = """
name: secure
run_env: {{state_dir: state}}
streams:
  in:
    config:
      source: {{type: Kafka, config: {{brokers: "127.0.0.1:{sasl}", topics: [{topic}-in], bounded: true, security: {{username: alice, password: "${{PASSWORD}}"}}}}}}
sink:
  - type: Kafka
    config: {{brokers: "127.0.0.1:{tls}", topic: {topic}-out, format: text, template: "{{{{_value}}}}", security: {{mechanism: SCRAM-SHA-256, username: alice, password: "${{PASSWORD}}", {trust}}}}}
"""


def test_passwords_and_certificates(kafka, prefix, millrace, tmp_path):
    topic = prefix + "secure"
    topics.create(kafka, topic + "-in", topic + "-out", partitions=2)
    topics.produce(kafka, topic + "-in", [(str(i), str(i)) for i in range(100)])
    file = tmp_path / "secure.yaml"

    def run(trust, password):
        file.write_text(SECURE.format(sasl=kafka.port + 2, tls=kafka.port + 3, topic=topic, trust=trust))
        return millrace(file, {"PASSWORD": password})

    ca = f"ca: {kafka.data}/ca.pem"
    wrong = run(ca, "looking-glass")
    assert wrong.code == 3 and str(kafka.port + 2) in wrong.err and "uthentication" in wrong.err, wrong.err
    assert "looking-glass" not in wrong.err + wrong.out
    untrusted = run("protocol: sasl_ssl", servers.PASSWORD)
    assert untrusted.code == 3 and str(kafka.port + 3) in untrusted.err and "certificate" in untrusted.err, untrusted.err
    assert not topics.read(kafka, topic + "-out")
    right = run(ca, servers.PASSWORD)
    assert right.code == 0, right.err
    assert sorted(int(m.value()) for m in topics.read(kafka, topic + "-out")) == list(range(100))


def test_collect_follows_rotated_files(kafka, prefix, millrace, tmp_path):
    topic = prefix + "collected"
    topics.create(kafka, topic, partitions=2)
    logs = tmp_path / "logs"
    logs.mkdir()
    log = logs / "app.log"
    log.write_text("".join(f"first {i}\n" for i in range(1000)))
    job = millrace(ROOT / "topologies/collect/topology.yaml", {"BROKERS": kafka.address, "TOPIC": topic, "LOGS": str(logs / "*.log*")}, wait=False)

    def count():
        return sum(1 for _ in topics.read(kafka, topic))

    assert wait_for(lambda: count() >= 1000), job.err_file.read_text()
    with open(log, "a") as f:
        f.write("half a ")
        f.flush()
        time.sleep(0.5)
        f.write("line\n")
        f.writelines(f"before rotation {i}\n" for i in range(500))
    log.rename(logs / "app.log.1")
    log.write_text("".join(f"second {i}\n" for i in range(700)))
    assert wait_for(lambda: count() >= 2201), count()
    run = job.stop()
    assert run.code == 0, run.err
    want = [f"first {i}" for i in range(1000)] + ["half a line"] + [f"before rotation {i}" for i in range(500)] + [f"second {i}" for i in range(700)]
    assert collections.Counter(m.value().decode() for m in topics.read(kafka, topic)) == collections.Counter(want)


HBASE = """
name: hbase
run_env: {state_dir: state}
stores:
  table: {type: HBase, config: {thrift: "${HBASE}", table: "${TABLE}", key: "{{id}}", family: d}}
streams:
  in:
    config:
      source: {type: Inline, config: {lines: ['{"id":"a","n":1}', '{"id":"b","n":2}', '{"id":"c","n":3}', '{"id":"a","n":4}']}}
      operates: [{type: StringToMap, config: {format: json, fields: {id: string, n: bigint}}}]
"""


def test_hbase_sink_then_store(hbase, prefix, millrace, tmp_path):
    table = prefix + "t"
    assert "with 3 regions" in servers.hbase_table(hbase, table, "d", ["b", "c"])
    file = tmp_path / "write.yaml"
    file.write_text(HBASE + """
sink:
  - {type: HBase, config: {thrift: "${HBASE}", table: "${TABLE}", key: "{{id}}", family: d, columns: [n]}}
""")
    env = {"HBASE": hbase.address, "TABLE": table}
    run = millrace(file, env)
    assert run.code == 0, run.err
    connection = happybase.Connection("127.0.0.1", hbase.port, timeout=60_000)
    assert {k: v[b"d:n"] for k, v in connection.table(table).scan()} == {b"a": b"4", b"b": b"2", b"c": b"3"}
    connection.table(table).delete(b"c")
    connection.close()
    file.write_text(HBASE + """
transforms:
  - {type: Lookup, name: looked, config: {store: table, fields: {found: {column: n, type: bigint}}}}
sink:
  - {type: File, config: {path: out.jsonl, on_exists: truncate}}
""")
    run = millrace(file, env)
    assert run.code == 0, run.err
    assert [json.loads(r).get("found") for r in rows(tmp_path)] == [4, 2, None, 4]


def test_missing_table_is_one_sentence(hbase, millrace, tmp_path):
    file = tmp_path / "write.yaml"
    file.write_text(HBASE + """
sink:
  - {type: HBase, config: {thrift: "${HBASE}", table: "${TABLE}", key: "{{id}}", family: d, columns: [n]}}
""")
    run = millrace(file, {"HBASE": hbase.address, "TABLE": "nowhere"})
    assert run.code == 3 and "nowhere" in run.err, run.err


def test_sigterm_drains(kafka, prefix, millrace, tmp_path):
    topic = prefix + "drain"
    topics.create(kafka, topic, partitions=1)
    topics.produce(kafka, topic, [("k", json.dumps({"id": i % 3})) for i in range(100)])
    file = tmp_path / "drain.yaml"
    file.write_text("""
name: drain
run_env: {state_dir: state}
streams:
  in:
    config:
      source: {type: Kafka, config: {brokers: "${BROKERS}", topics: ["%s"], start: earliest}}
      operates: [{type: StringToMap, config: {format: json, fields: {id: bigint}}}]
transforms:
  - {type: KeyBy, config: {keys: [id]}}
  - {type: CountWindowWithTimeOut, config: {count: 1000, timeout: 1h, aggregates: {n: "count(*)"}}}
sink:
  - {type: File, config: {path: out.jsonl, on_exists: truncate}}
  - {type: File, name: seen, input: in, config: {path: seen.jsonl, on_exists: truncate}}
""" % topic)
    job = millrace(file, {"BROKERS": kafka.address}, wait=False)
    assert wait_for(lambda: len(rows(tmp_path, "seen.jsonl")) == 100), job.err_file.read_text()
    job.process.send_signal(signal.SIGTERM)
    run = job.wait()
    assert run.code == 0, run.err
    assert collections.Counter({(r := json.loads(line))["id"]: r["n"] for line in rows(tmp_path)}) == {0: 34, 1: 33, 2: 33}
