#!/usr/bin/env python3
"""J2, J3, J4 exactly once, with RocksDB and a checkpoint every 10 s, on Millrace and on Flink in turn, from files of one generator.

checkpointed.py [--jobs J2,J3,J4] [--rounds 1] [--seconds 60] [--cpu 1] [--no-peers]

Every contestant gets as many rows as keep it busy for the time wanted: two shorter runs tell its rate first. A run that took less than that or completed
fewer than 5 checkpoints has no figure, and is made again with more rows. Prints records/s, CPU seconds per million records, peak memory, and the ratios. The outputs are compared on the short run's rows."""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import bench

HERE = bench.HERE
# job: the generator's kind, input files, expected factors over Flink: rate, CPU
JOBS = {"J2": ("dedup", ["dedup.jsonl"], 4), "J3": ("join", ["exposures.jsonl", "clicks.jsonl"], 12), "J4": ("events", ["events.jsonl"], 8)}
SHORT = 1_000_000
TRIES = 3


class Contestant:
    def __init__(self, name, job, work, cpu):
        self.name, self.job, self.work, self.cpu = name, job, work, cpu
        self.out = work / "out"
        self.figures = []

    def command(self, folder):
        files = [folder / f for f in JOBS[self.job][1]]
        if self.name == "flink":
            return bench.flink(self.job, folder, self.out, f"{self.work}/flink", "backend=rocksdb", "ckpt=1"), {}
        env = {"IN": str(files[0]), "RIGHT": str(files[-1]), "OUT": str(self.out), "STATE": str(self.work / "state")}
        checkpoint = f"run_env.checkpoint={{dir: {self.work}/checkpoints, interval: 10s, retained: 100}}"
        return [bench.TARGET / "release/millrace", "run", "--quiet", "--workers", "1", "--set", checkpoint, HERE / f"jobs/{self.job.lower()}.yaml"], env

    def completed(self):
        """The number of completed checkpoints so far, by what lies on disk."""
        if self.name == "flink":
            return max((int(p.parent.name[4:]) for p in self.work.glob("flink/ckpt/*/chk-*/_metadata")), default=0)
        return sum(1 for p in self.work.glob("checkpoints/*/*/slots/*") if b'"manifest"' in p.read_bytes()[:4000])

    def run(self, folder, rows):
        """(seconds, CPU seconds, peak MiB, checkpoints, digest of the output)"""
        shutil.rmtree(self.work)
        self.work.mkdir()
        seen, done = [0], threading.Event()

        def watch():
            while not done.wait(1):
                seen[0] = max(seen[0], self.completed())

        watcher = threading.Thread(target=watch)
        watcher.start()
        m = bench.measure(*self.command(folder), self.cpu)
        done.set()
        watcher.join()
        if m.code != 0:
            sys.exit(f"{self.job} {self.name}: exit code {m.code}: {m.err}")
        return m, seen[0]


def make(job, rows, work):
    """An input of that many rows (of the first file), and the number of records in all of it."""
    folder = work / f"in-{rows}"
    subprocess.run([bench.BUILD / "floor/release/rows", JOBS[job][0], str(rows), "2000", folder], check=True)
    files = [str(folder / f) for f in JOBS[job][1]]
    return folder, sum(int(n.split()[0]) for n in subprocess.run(["wc", "-l", *files], capture_output=True, text=True, check=True).stdout.splitlines()[:len(files)])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--jobs", default=",".join(JOBS))
    p.add_argument("--rounds", type=int, default=1)
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--cpu", default="1")
    p.add_argument("--no-peers", action="store_true")
    a = p.parse_args()
    a.quick = False
    bench.build(a, [])
    work = pathlib.Path(tempfile.mkdtemp(prefix="checkpointed-", dir=bench.BUILD))
    try:
        for job in a.jobs.split(","):
            names = ["millrace"] if a.no_peers else ["millrace", "flink"]
            players = []
            for name in names:
                (work / name).mkdir(exist_ok=True)
                players.append(Contestant(name, job, work / name, a.cpu))
            folder, records = make(job, SHORT, work)
            digests, walls = [], []
            for c in players:
                m, _ = c.run(folder, records)
                digests.append(bench.content(c.name, c.out))
                walls.append(m.wall)
            shutil.rmtree(folder)
            if len(digests) > 1 and digests[0][0] != digests[1][0]:
                print(f"{job}: WRONG, the outputs differ: no figure")
                continue
            sizes = []
            for c, wall in zip(players, walls):
                # The start of the process counts for much in a short run, and state slows down as it grows.
                rows = int(SHORT * a.seconds / 4 / wall)
                folder, records = make(job, rows, work)
                m, _ = c.run(folder, records)
                shutil.rmtree(folder)
                sizes.append(int(rows * 1.15 * a.seconds / m.wall))
            for _ in range(a.rounds):
                for i, c in enumerate(players):
                    for _ in range(TRIES):
                        folder, records = make(job, sizes[i], work)
                        m, checkpoints = c.run(folder, records)
                        shutil.rmtree(folder)
                        good = m.wall >= a.seconds and checkpoints >= 5
                        if good:
                            c.figures.append((records / m.wall, m.cpu / records * 1e6, m.rss))
                        print(f"{job} {c.name:10}{records / 1e6:8.1f} M records {m.wall:7.1f} s {records / m.wall / 1e3:9.0f} K/s {m.cpu / records * 1e6:7.2f} CPU s/M "
                              f"{m.rss:7.0f} MiB {checkpoints:3} checkpoints{'' if good else '  TOO SHORT: no figure'}", flush=True)
                        if good:
                            break
                        sizes[i] = int(sizes[i] * 1.15 * max(a.seconds / m.wall, 1))
            if all(c.figures for c in players) and len(players) == 2:
                rate, cpu = ([statistics.median(f[i] for f in c.figures) for c in players] for i in (0, 1))
                print(f"{job}: {rate[0] / rate[1]:.1f} x the rate of Flink (wanted {JOBS[job][2]}), 1/{cpu[1] / cpu[0]:.1f} of its CPU per record (wanted 1/8)", flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
