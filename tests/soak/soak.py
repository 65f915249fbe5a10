#!/usr/bin/env python3
"""Backpressure for ten minutes: Kafka through join and window to a sink held at 5 k/s, the source able to give 500 k/s.
Memory at the end must be at most 1.05 times memory at minute 2.   soak.py [--minutes 10]"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
import servers
import topics

TOPOLOGY = """
name: soak
run_env: {time_characteristic: EventTime, state_dir: ./state}
streams:
  clicks:
    config:
      source: {type: Kafka, config: {brokers: "${BROKERS}", topics: [clicks], start: earliest}}
      operates:
        - {type: StringToMap, config: {format: json, fields: {uid: string, mid: string, ts: bigint}}}
      watermark: {field: ts, format: epoch_ms, max_out_of_orderness: 5s}
  imps:
    config:
      source: {type: Kafka, config: {brokers: "${BROKERS}", topics: [exposures], start: earliest}}
      operates:
        - {type: StringToMap, config: {format: json, fields: {uid: string, mid: string, ts: bigint, pos: bigint}}}
      watermark: {field: ts, format: epoch_ms, max_out_of_orderness: 5s}
transforms:
  - type: IntervalLeftJoin
    name: joined
    left: clicks
    right: imps
    config: {keys: [uid, mid], lower: -10s, upper: 2s, right_fields: {pos: pos}, unmatched: emit}
  - {type: KeyBy, name: by_mid, input: joined, config: {keys: [mid]}}
  - {type: CountWindowWithTimeOut, name: counts, config: {count: 2, timeout: 5s, aggregates: {n: "count(*)"}}}
sink:
  - {type: Null, name: slow, input: counts, config: {rate: 5000}}
"""


def rss(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--minutes", type=float, default=10)
    minutes = p.parse_args().minutes
    binary = os.environ.get("MILLRACE", pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/millrace")
    kafka = servers.kafka()
    try:
        topics.create(kafka, "clicks", "exposures", partitions=2)
        rows = int(minutes * 60 * 5000 * 2.5)
        print(f"producing {rows} rows a topic", flush=True)
        for topic in ("clicks", "exposures"):
            for first in range(0, rows, 500_000):
                topics.produce(kafka, topic, (
                    (f"u{i % 5000}", json.dumps({"uid": f"u{i % 5000}", "mid": f"m{i // 3 % 20000}", "ts": 1_700_000_000_000 + i // 20, "pos": i % 7}), i % 5000 % 2)
                    for i in range(first, min(rows, first + 500_000))))
        with tempfile.TemporaryDirectory(prefix="millrace-soak-") as tmp:
            file = pathlib.Path(tmp) / "soak.yaml"
            file.write_text(TOPOLOGY)
            job = subprocess.Popen([binary, "run", "--quiet", file], env=dict(os.environ, BROKERS=kafka.address), cwd=tmp)
            start, early, last = time.time(), None, None
            while time.time() - start < minutes * 60:
                time.sleep(5)
                assert job.poll() is None, f"ended with {job.returncode} before its time"
                last = rss(job.pid)
                if early is None and time.time() - start >= minutes * 12:
                    early = last
                    print(f"after {(time.time() - start) / 60:.1f} min: {early / 1024:.0f} MiB", flush=True)
            job.kill()
            job.wait()
        ratio = last / early
        print(f"after {minutes} min: {last / 1024:.0f} MiB, {ratio:.3f} times")
        ok = ratio <= 1.05
        print(f"{int(ok)} passed, {int(not ok)} failed")
        return 0 if ok else 1
    finally:
        kafka.end()


if __name__ == "__main__":
    sys.exit(main())
