#!/usr/bin/env python3
"""What `millrace tap` costs the job that it looks into: the same job without a tap, with one, and with one that filters, in turn.

tap.py [--rows 4000000] [--rounds 5]    one worker; rows a second of the job, and CPU seconds a million rows
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

CACHE = pathlib.Path(os.environ.get("MILLRACE_CACHE", pathlib.Path.home() / ".cache/millrace"))
MILLRACE = os.environ.get("MILLRACE", str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target")) / "release/millrace"))
JOB = """name: tapped
run_env: {state_dir: %s}
streams:
  rows:
    config:
      source: {type: Generator, config: {profile: ad_exposures, seed: 7, count: %d}}
      operates:
        - {type: StringToMap, config: {format: json, fields: {uid: string, mid: string, ts: bigint, pos: bigint, price: double}}}
transforms:
  - {type: Filter, name: some, config: {where: pos >= 0}}
sink:
  - {type: Null}
"""
WAYS = {"no tap": None, "a tap": [], "a tap that filters": ["--where", "pos = 3 and uid like '%7'"]}


def once(folder, rows, tap):
    """Rows a second, and the job's CPU seconds a million rows."""
    file = folder / "job.yaml"
    file.write_text(JOB % (folder / "state", rows))
    summary = folder / "summary.json"
    job = subprocess.Popen([MILLRACE, "run", str(file), "--workers", "1", "--quiet", "--summary", str(summary)])
    taps = None
    if tap is not None:
        while not (folder / "state/tapped.sock").exists():
            time.sleep(0.001)
        taps = subprocess.Popen([MILLRACE, "tap", str(file), "some", "--json", *tap], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(job.pid, 0)
    assert status == 0, status
    if taps:
        taps.wait()
    s = json.loads(summary.read_text())
    assert s["in"] >= rows * 0.9, s["in"]
    return s["records_per_second"], (used.ru_utime + used.ru_stime) / s["in"] * 1e6


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rows", type=int, default=4_000_000)
    p.add_argument("--rounds", type=int, default=5)
    a = p.parse_args()
    figures = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as tmp:
        once(pathlib.Path(tmp), a.rows // 4, None)
        for _ in range(a.rounds):
            for way, tap in WAYS.items():
                figures[way].append(once(pathlib.Path(tmp), a.rows, tap))
    base = statistics.median(cpu for _, cpu in figures["no tap"])
    for way, runs in figures.items():
        rate, cpu = (statistics.median(x) for x in zip(*runs))
        ratios = [c / b for (_, c), (_, b) in zip(runs, figures["no tap"])]
        print(f"{way:20} {rate / 1e6:.2f} M rows/s, {cpu:.3f} CPU s/M rows, {100 * (cpu / base - 1):+.1f} % "
              f"(by round {', '.join(f'{100 * (r - 1):+.1f}' for r in ratios)})")


if __name__ == "__main__":
    main()
