"""`lint --connect`: what brokers and tables say to a topology, at its place in the file."""
import json
import subprocess

import servers
import topics
from confluent_kafka.admin import AdminClient, NewTopic
from conftest import BINARY

JOB = """
name: asks
stores:
  places: {{type: HBase, config: {{thrift: "{hbase}", table: {table}, family: {family}, key: "{{{{id}}}}", timeout: 2s}}}}
run_env: {{parallelism: 5}}
streams:
  in:
    config:
      source: {{type: Kafka, config: {{brokers: "{kafka}", topics: [{short}, {there}], group: g}}}}
      operates: [{{type: StringToMap, config: {{format: json, fields: {{id: string}}}}}}]
transforms:
  - {{type: Lookup, name: found, config: {{store: places, fields: {{name: name}}}}}}
  - {{type: Dedup, name: once, config: {{keys: [id], within: 7d}}}}
sink:
  - {{type: Kafka, name: out, input: once, config: {{brokers: "{kafka}", topic: {out}, format: json}}}}
  - {{type: Null, name: late, input: once.late}}
"""


def lint(tmp_path, **names):
    file = tmp_path / "job.yaml"
    file.write_text(JOB.format(**names))
    run = subprocess.run([BINARY, "lint", "--connect", "--format", "json", str(file)], capture_output=True, text=True, timeout=60)
    return run.returncode, json.loads(run.stdout), file.read_text().splitlines()


def test_servers_are_asked(kafka, hbase, prefix, tmp_path):
    short, there, out, table = (prefix + n for n in ("short", "there", "out", "table"))
    topics.create(kafka, there, out, partitions=2)
    admin = AdminClient({"bootstrap.servers": kafka.address})
    hour = NewTopic(short, 1, 1, config={"retention.ms": "3600000", "cleanup.policy": "delete"})
    admin.create_topics([hour])[short].result(30)
    servers.hbase_table(hbase, table, "d")
    names = dict(kafka=kafka.address, hbase=hbase.address, table=table, family="d", short=short, there=there, out=out)

    code, found, lines = lint(tmp_path, **names)
    told = {d["id"]: d for d in found}
    assert code == 0, found
    # An hour is kept, and a restart without checkpoints would read seven days again.
    assert lines[told["short-retention"]["line"] - 1][told["short-retention"]["column"] - 1:].startswith(short), found
    assert "1h" in told["short-retention"]["message"] and "7d" in told["short-retention"]["message"], found
    assert "3 partitions for 5 workers" in told["few-partitions"]["message"], found

    code, found, lines = lint(tmp_path, **{**names, "out": out + "-no", "family": "x", "there": there + "-no"})
    wrong = [d for d in found if d["id"] == "not-connected"]
    assert code == 1 and len(wrong) == 3, found
    for d, name in zip(wrong, (None, there + "-no", out + "-no")):
        text = lines[d["line"] - 1][d["column"] - 1:]
        assert name is None or text.startswith(name), (d, text)
    assert wrong[0]["line"] == 4, found
