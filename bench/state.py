#!/usr/bin/env python3
"""Keyed state on disk: what checkpoints cost, what they upload, how long a recovery takes, and state that is larger than memory.

state.py rate [--seconds 60] [--rounds 3]      J2, J3, J4 with a checkpoint every 10 s and without, one worker, A B A B
state.py incremental [--keys 500000]           bytes uploaded after 1 % of the keys changed: median and worst of 20
state.py recovery [--bytes 1000000000]         from the start of the process until it reads again
state.py big [--bytes 10000000000] [--memory 1GiB]   runs, is killed twice, goes on; memory, and that every key is there once
"""
import argparse
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request

CACHE = pathlib.Path(os.environ.get("MILLRACE_CACHE", pathlib.Path.home() / ".cache/millrace"))
MILLRACE = os.environ.get("MILLRACE", str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target")) / "release/millrace"))

SOURCE = "{type: Generator, config: {profile: %s, seed: 7, event_rate: 100000, disorder: 1s}}"
PARSE = "{type: StringToMap, config: {format: json, fields: {uid: string, mid: string, ts: bigint, pos: bigint, price: double}}}"
MARK = "watermark: {field: ts, format: epoch_ms, max_out_of_orderness: 1s}"
EXPOSURES = f"exposures: {{config: {{source: {SOURCE % 'ad_exposures'}, operates: [{PARSE}], {MARK}}}}}"
CLICKS = f"""clicks:
    config:
      source: {SOURCE % 'ad_clicks'}
      operates:
        - {{type: StringToMap, config: {{format: delimiter, delimiter: "\\t", fields: {{uid: string, mid: string, os: string, ts: bigint, price: double}}}}}}
      {MARK}"""
JOBS = {
    "J2": ("ProcessingTime", [EXPOSURES], ["{type: Dedup, config: {keys: [uid, mid]}}"]),
    "J3": ("EventTime", [EXPOSURES, CLICKS], [
        "{type: IntervalLeftJoin, left: exposures, right: clicks, config: {keys: [mid, uid], lower: -2s, upper: 10s, right_fields: {cts: ts}, unmatched: emit}}"]),
    "J4": ("EventTime", [EXPOSURES], [
        "{type: KeyBy, config: {keys: [mid]}}",
        "{type: CountWindowWithTimeOut, config: {count: 100, timeout: 5s, aggregates: {n: 'count(*)', total: sum(price)}}}"]),
}


def topology(folder, name, time_, streams, transforms, env=""):
    text = f"name: {name}\nrun_env: {{time_characteristic: {time_}, state_dir: {folder}/state{env}}}\nstreams:\n"
    text += "".join(f"  {s}\n" for s in streams) + "transforms:\n" + "".join(f"  - {t}\n" for t in transforms)
    file = folder / f"{name}.yaml"
    file.write_text(text + "sink:\n  - {type: Null}\n")
    return file


def unique(folder, rows, env):
    """A job whose every row is a key of some 300 bytes."""
    source = f"{{type: Generator, config: {{profile: ad_exposures, seed: 7, count: {rows}}}}}"
    return topology(folder, "unique", "ProcessingTime", [f"rows: {{config: {{source: {source}}}}}"],
                    ["{type: Dedup, name: dedup, config: {keys: [_value]}}"], env)


ROW = 330  # bytes of such a key as its record in the tier


def checkpointed(folder, interval, more=""):
    return f", checkpoint: {{dir: {folder}/checkpoints, interval: {interval}}}{more}"


def run(file, *args, **kw):
    return subprocess.Popen([MILLRACE, "run", str(file), "--workers", "1", "--quiet", *args], **kw)


def checkpoints(file, *args):
    return json.loads(subprocess.run([MILLRACE, "checkpoints", *args, str(file), "--json"], capture_output=True, check=True).stdout)


def peak(pid):
    """VmHWM in MiB; None: it is gone."""
    try:
        return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024
    except (OSError, TypeError):
        return None


def rate(a, folder):
    rates = {}
    for _ in range(a.rounds):
        for job in a.jobs.split(","):
            for kind, env in (("without", ""), ("with", checkpointed(folder, "10s"))):
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
                time_, streams, transforms = JOBS[job]
                file = topology(folder, f"{job.lower()}-{kind}", time_, streams, transforms, env)
                out = folder / "summary.json"
                begun = os.times()
                run(file, "--for", f"{a.seconds}s", "--summary", str(out)).wait()
                used = os.times()
                s = json.loads(out.read_text())
                cpu = (used.children_user + used.children_system - begun.children_user - begun.children_system) / max(s["in"], 1) * 1e6
                taken = checkpoints(file, "list") if env else []
                rates.setdefault((job, kind), []).append((s["in"] / a.seconds, cpu))
                last = f"; the last has {taken[-1]['bytes'] >> 20} MiB" if taken else ""
                slow = s['latency']['max_micros'] / 1e3
                print(f"{job} {kind:8}{s['in'] / a.seconds / 1e3:9.0f} K rows/s {cpu:6.2f} CPU s/M rows, slowest row {slow:.0f} ms, {len(taken)} checkpoints kept{last}", flush=True)
    for job in a.jobs.split(","):
        base, with_ = (statistics.median(r for r, _ in rates[job, k]) for k in ("without", "with"))
        print(f"{job}: {100 * (1 - with_ / base):.1f} % below the same job without checkpoints (wanted: at most 25 %)")


def incremental(a, folder):
    lines = folder / "lines"
    lines.write_text("")
    streams = [f"rows:\n    config:\n      source: {{type: File, config: {{path: {lines}, mode: follow}}}}\n"
               "      operates: [{type: StringToMap, config: {format: json, fields: {k: string, v: bigint}}}]"]
    transforms = ["{type: KeyBy, config: {keys: [k]}}",
                  "{type: CountWindowWithTimeOut, name: window, config: {count: 1000000, timeout: 100h, aggregates: {n: 'count(*)', total: sum(v), last: max(v)}}}"]
    file = topology(folder, "incremental", "ProcessingTime", streams, transforms, checkpointed(folder, "1h"))

    def feed(keys):
        with lines.open("a") as f:
            f.writelines(f'{{"k":"key-{k:012}","v":{random.randrange(1000)}}}\n' for k in keys)
        time.sleep(a.settle if len(keys) < a.keys else 10 * a.settle)

    def stored():
        return {f.name: f.stat().st_size for f in folder.glob("checkpoints/incremental/*/files/*")}

    process = run(file)
    time.sleep(2)
    feed(range(a.keys))
    shares, before = [], {}
    for i in range(22):
        subprocess.run([MILLRACE, "savepoint", str(file)], check=True, stdout=subprocess.DEVNULL)
        now, whole = stored(), checkpoints(file, "list")[-1]["bytes"]
        new = sum(n for name, n in now.items() if name not in before)
        # The first has everything, and the second what was still being written.
        if i > 1:
            shares.append(100 * new / whole)
        print(f"{i}: {new} of {whole} bytes", flush=True)
        before = now
        feed(random.sample(range(a.keys), a.keys // 100))
    process.send_signal(signal.SIGTERM)
    process.wait()
    print(f"uploaded after 1 % of {a.keys} keys changed: median {statistics.median(shares):.2f} %, worst {max(shares):.2f} % of the state (wanted: median under 5 %)")


def reads(port):
    """Whether a run has read its first rows."""
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1).read().decode()
    except OSError:
        return False
    return any(float(line.split()[-1]) > 0 for line in text.splitlines() if line.startswith("millrace_part_records_out_total"))


def recovery(a, folder):
    rows = a.bytes // ROW
    run(unique(folder, rows, checkpointed(folder, "2s")), "--limit", str(rows - 1)).wait()
    # The same job with more to read: the run before had finished, so it goes on from its last periodic checkpoint.
    slots = [c for c in checkpoints(folder / "unique.yaml", "list") if c["kind"] == "periodic"]
    file, port = unique(folder, 10 * rows, checkpointed(folder, "1h")), 19464
    times = []
    for _ in range(3):
        begun = time.monotonic()
        process = run(file, "--from", str(slots[-1]["slot"]), "--accept-duplicates", "--metrics", str(port))
        while not reads(port):
            time.sleep(0.01)
            assert process.poll() is None and time.monotonic() < begun + 60, "it does not read"
        times.append(time.monotonic() - begun)
        process.kill()
        process.wait()
    print(f"recovery of {slots[-1]['bytes'] / 1e6:.0f} MB: {', '.join(f'{t:.2f}' for t in times)} s until it reads (wanted: 3 s for 1 GB)")


def big(a, folder):
    rows, most, begun = a.bytes // ROW, 0.0, time.monotonic()
    file = unique(folder, rows, checkpointed(folder, "30s", f", memory: {a.memory}"))
    ends = [a.seconds, 2 * a.seconds]
    while True:
        process = run(file, stderr=subprocess.PIPE)
        started = time.monotonic()
        while process.poll() is None:
            time.sleep(1)
            most = max(most, peak(process.pid) or 0)
            if ends and time.monotonic() - started > ends[0]:
                ends.pop(0)
                process.kill()
                print(f"{time.monotonic() - begun:.0f} s: killed", flush=True)
                break
        else:
            assert process.returncode == 0, process.stderr.read()
            break
    last = checkpoints(file, "list")[-1]
    keys = sum(p["keys"] for o in checkpoints(file, "inspect", str(last["slot"]))["operators"] for p in o["pieces"])
    print(f"{keys} of {rows} keys, {last['bytes'] / 1e9:.2f} GB of state, in {time.monotonic() - begun:.0f} s; VmHWM {most:.0f} MiB of {a.memory}")
    assert abs(keys - rows) <= rows * 1e-6, "keys are missing"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["rate", "incremental", "recovery", "big"])
    p.add_argument("--seconds", type=int, default=60)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--jobs", default="J2,J3,J4")
    p.add_argument("--keys", type=int, default=500_000)
    p.add_argument("--settle", type=float, default=1.0)
    p.add_argument("--bytes", type=int)
    p.add_argument("--memory", default="1GiB")
    a = p.parse_args()
    a.bytes = a.bytes or (10_000_000_000 if a.what == "big" else 1_000_000_000)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-state-"))
    try:
        {"rate": rate, "incremental": incremental, "recovery": recovery, "big": big}[a.what](a, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
