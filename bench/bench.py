#!/usr/bin/env python3
"""The benchmark: the jobs of JOBS.md on Millrace, the bare loop, Benthos and Flink, on the same inputs and cores.

bench.py [--quick] [--jobs J1,J2] [--rows N] [--rounds N] [--cpu LIST] [--no-peers] [--realtime]

Makes the inputs, runs every contestant once and compares the outputs (a wrong run has no figure), then times them in turn,
A B A B, pinned to one core. Prints records/s, CPU seconds per million records, peak memory, each as median (min - max), and
the ratio of CPU per record to the floor of the same round. --quick: without Flink, fewer rows.

The floors of a ratio are those that promise no more than the job does: J1 any key order (J1any), J1t the regex crate (J1tre), J1d and
J1c one search for each separator. The other floors know the generator's layout: the limit, printed beside.

`latency` is a job of its own, on Millrace alone: each of jobs/latency-*.yaml runs flat out, then at half of that rate; printed are the
times from a row's arrival to its emission in that second run. On a machine that others use too, --realtime gives it the core."""
import argparse
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
CACHE = pathlib.Path(os.environ.get("MILLRACE_CACHE", pathlib.Path.home() / ".cache/millrace"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target"))
BUILD = CACHE / "bench"

# job: input kind of gen_jobs.py, input files, floors (the first is the yardstick)
JOBS = {
    "J1": ("events", ["events.jsonl"], ["J1any", "J1"]),
    "J1t": ("access", ["access.log"], ["J1tre", "J1t"]),
    "J1d": ("access", ["access.log"], ["J1d", "J1t"]),
    "J1c": ("clicks", ["clicks.tsv"], ["J1c"]),
    "J2": ("dedup", ["dedup.jsonl"], ["J2"]),
    "J3": ("join", ["exposures.jsonl", "clicks.jsonl"], ["J3"]),
    "J4": ("events", ["events.jsonl"], ["J4"]),
}
# jobs/latency-NAME.yaml: how many streams share its rate
LATENCY = {"wash": 1, "dedup": 1, "join": 2}
BENTHOS = {"J1", "J1t", "J2"}
FLINK = {"J1": "J1", "J1t": "J1t", "J2": "J2", "J3": "J3co", "J4": "J4fn"}


def build(args, jobs):
    """Builds the peers once; says what it does."""
    BUILD.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, CARGO_TARGET_DIR=str(BUILD / "floor"))
    print("bench: building the floor", file=sys.stderr)
    subprocess.run(["cargo", "build", "--release", "-q", "--manifest-path", HERE / "floor/Cargo.toml"], check=True, env=env)
    if not args.no_peers and BENTHOS & set(jobs) and not (BUILD / "benthos").exists():
        print("bench: building Benthos (some minutes, once)", file=sys.stderr)
        work = BUILD / "benthos-src"
        shutil.copytree(HERE / "benthos/build", work, dirs_exist_ok=True)
        subprocess.run(["go", "mod", "tidy"], check=True, cwd=work, stderr=subprocess.DEVNULL)
        subprocess.run(["go", "build", "-o", BUILD / "benthos", "."], check=True, cwd=work)
    if not args.quick and not args.no_peers and not (BUILD / "flink/cp.txt").exists():
        print("bench: building the Flink jobs (Maven, once)", file=sys.stderr)
        shutil.copytree(HERE / "flink", BUILD / "flink", dirs_exist_ok=True)
        subprocess.run(["mvn", "-q", "-B", "compile", "dependency:build-classpath", "-Dmdep.outputFile=cp.txt"], check=True, cwd=BUILD / "flink")


def inputs(kind, rows):
    """The generated inputs of one kind, kept between runs."""
    folder = BUILD / f"data-{kind}-{rows}"
    if not (folder / "done").exists():
        print(f"bench: making {rows} rows of {kind}", file=sys.stderr)
        subprocess.run([sys.executable, HERE / "gen_jobs.py", str(rows), "7", folder, "--kinds", kind, "--eps", "2000"], check=True)
        (folder / "done").touch()
    return folder


class Measured:
    def __init__(self, wall, cpu, rss, code, err):
        self.wall, self.cpu, self.rss, self.code, self.err = wall, cpu, rss, code, err


def measure(command, env, cpu, first=()):
    """One run, pinned: wall and CPU seconds, peak RSS in MiB of the process. `first`: what it is run by."""
    err, out = tempfile.TemporaryFile(), tempfile.TemporaryFile()
    start = time.monotonic()
    process = subprocess.Popen([*first, "taskset", "-c", cpu, *map(str, command)], env=dict(os.environ, **env), stdout=out, stderr=err)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    err.seek(0)
    out.seek(0)
    last = out.read()[-4000:].decode(errors="replace").strip().rsplit("\n", 1)[-1]
    if last.startswith('{"job"') and "run_s" in last:
        # Flink says how long it took without the start of its cluster; its CPU time includes that
        wall = json.loads(last)["run_s"]
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, process.returncode, err.read().decode(errors="replace")[-2000:])


def flink(job, folder, out, work=None, *options):
    """The command of a Flink job: reads `folder`, writes `out`.flink."""
    opens = [f"--add-opens=java.base/java.{p}=ALL-UNNAMED" for p in ("util", "lang", "nio", "time", "net", "util.concurrent")]
    path = f"{BUILD / 'flink/target/classes'}:{(BUILD / 'flink/cp.txt').read_text().strip()}"
    return ["java", "-Xmx4g", "-Xms4g", "-XX:+UseParallelGC", *opens, "-cp", path, "peer.Bench", f"job={FLINK[job]}", "p=1", f"in={folder}",
            f"out={out}.flink", f"work={work or f'{out}.work'}", *options]


def contestants(job, folder, out, args):
    """name -> (command, environment) with `out` as the output's stem."""
    _, files, floors = JOBS[job]
    ins = [str(folder / f) for f in files]
    found = {}
    env = {"IN": ins[0], "RIGHT": ins[-1], "OUT": str(out), "STATE": str(out) + ".state"}
    found["millrace"] = ([TARGET / "release/millrace", "run", "--quiet", "--workers", "1", HERE / f"jobs/{job.lower()}.yaml"], env)
    for floor in floors:
        found[f"floor {floor}"] = ([BUILD / "floor/release/floor", floor, *ins, out], {})
    if not args.no_peers and job in BENTHOS:
        found["benthos"] = ([BUILD / "benthos", "run", HERE / f"benthos/{job.lower()}.yaml"], {**env, "SIDE": str(out) + ".bad", "THREADS": "1", "GOMAXPROCS": "1"})
    if not args.quick and not args.no_peers and job in FLINK:
        found["flink"] = (flink(job, folder, out), {})
    return found


SORTED_KEYS = "import json, sys\nfor l in sys.stdin: print(json.dumps(json.loads(l), sort_keys=True))"


def content(name, out, canonical=False):
    """Rows in sorted order as one digest, main output and bad lines. `canonical`: whatever the order of keys (Benthos sorts them)."""
    digests = []
    for part in ("", ".bad"):
        source = f"cat '{out}{part}' 2>/dev/null"
        if name == "flink":
            source = f"find '{out}.flink/{'bad' if part else 'main'}' -type f -exec cat {{}} + 2>/dev/null"
        keys = f"| {sys.executable} -c '{SORTED_KEYS}'" if canonical and not part else ""
        run = subprocess.run(["bash", "-c", f"{source} {keys} | LC_ALL=C sort | sha256sum"], capture_output=True, text=True, check=True)
        digests.append(run.stdout.split()[0][:16])
    return digests


def rated(name, rate, event_rate, seconds, work, cpu, first):
    """One run of a latency job, `rate` records/s a stream: its summary."""
    env = {"RATE": str(rate), "EVENT_RATE": str(event_rate), "OUT": str(work / "out"), "STATE": str(work / "state")}
    options = ["--quiet", "--workers", "1", "--for", f"{seconds}s", "--summary", work / "summary"]
    m = measure([TARGET / "release/millrace", "run", *options, HERE / f"jobs/latency-{name}.yaml"], env, cpu, first)
    if m.code != 0:
        sys.exit(f"latency {name}: exit code {m.code}: {m.err}")
    summary = json.loads((work / "summary").read_text())
    for f in work.iterdir():
        shutil.rmtree(f) if f.is_dir() else f.unlink()
    return summary


def latency(work, cpu, rounds, first):
    """p50, p99 and the longest time from arrival to emission at half of the rate that the same job reaches flat out."""
    print(f"\nlatency at 50 % load, {rounds} rounds on core {cpu}, ms")
    print(f"  {'':16} {'full M records/s':>24} {'p50':>24} {'p99':>24} {'max':>24}")
    found = []
    for name, streams in LATENCY.items():
        full, figures = [], {"p50_micros": [], "p99_micros": [], "max_micros": []}
        for _ in range(rounds):
            full.append(rated(name, 1e9, 200_000, 6, work, cpu, first)["in"] / 6)
            half = int(full[-1] / 2 / streams)
            summary = rated(name, half, half, 12, work, cpu, first)
            for k, values in figures.items():
                values.append(summary["latency"][k] / 1000)
            if summary["in"] < 0.95 * half * streams * 12:
                print(f"  {name}: half of the rate was not held, the core was not free: {summary['in'] / 12:,.0f} records/s")
        print(f"  {name:16} {show([f / 1e6 for f in full], 3):>24} " + " ".join(f"{show(v, 1):>24}" for v in figures.values()))
        found.append({"job": "latency", "name": name, "full": full, **figures})
    return found


def show(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} - {max(values):.{digits}f})"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--jobs", default=",".join([*JOBS, "latency"]))
    p.add_argument("--rows", type=int)
    p.add_argument("--rounds", type=int)
    p.add_argument("--cpu", default="1")
    p.add_argument("--no-peers", action="store_true", help="Millrace and the floors alone")
    p.add_argument("--realtime", action="store_true", help="latency: before all other processes on the core (needs root)")
    p.add_argument("--json", help="write the figures here too")
    args = p.parse_args()
    jobs = [j for j in args.jobs.split(",") if j != "latency"]
    rows, rounds = args.rows or (500_000 if args.quick else 4_000_000), args.rounds or 3
    if jobs:
        build(args, jobs)
    shm = pathlib.Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else pathlib.Path(tempfile.gettempdir())
    work = pathlib.Path(tempfile.mkdtemp(prefix="millrace-bench-", dir=shm))
    wrong, figures = 0, []
    try:
        for job in jobs:
            kind, files, floors = JOBS[job]
            folder = inputs(kind, rows)
            records = sum(sum(1 for _ in open(folder / f, "rb")) for f in files)
            out = work / "out"
            players = contestants(job, folder, out, args)
            want, want_canonical, runs = None, None, {}
            for name in [f"floor {floors[0]}"] + [n for n in players if n != f"floor {floors[0]}"]:
                m = measure(*players[name], args.cpu)
                got = content(name, out, canonical=name == "benthos")
                if want is None and "benthos" in players:
                    want_canonical = content(name, out, canonical=True)
                for f in work.iterdir():
                    shutil.rmtree(f) if f.is_dir() else f.unlink()
                want = want or got
                expected = want_canonical if name == "benthos" else want
                if m.code != 0 or got != expected:
                    wrong += 1
                    print(f"{job} {name}: WRONG, no figure (exit code {m.code}, {'rows' if got[0] != expected[0] else 'bad lines'} differ) {m.err}")
                else:
                    runs[name] = []
            for _ in range(rounds):
                for name in runs:
                    runs[name].append(measure(*players[name], args.cpu))
                    for f in work.iterdir():
                        shutil.rmtree(f) if f.is_dir() else f.unlink()
            yard = runs.get(f"floor {floors[0]}")
            print(f"\n{job}: {records:,} records, {rounds} rounds on core {args.cpu}")
            print(f"  {'':16} {'M records/s':>24} {'CPU s / M':>24} {'peak MiB':>9} {'CPU / ' + floors[0]:>24}")
            for name, ms in runs.items():
                rate = [records / m.wall / 1e6 for m in ms]
                cpu = [m.cpu / records * 1e6 for m in ms]
                ratio = [m.cpu / y.cpu for m, y in zip(ms, yard)] if yard else [0]
                print(f"  {name:16} {show(rate, 3):>24} {show(cpu, 3):>24} {max(m.rss for m in ms):9.0f} {show(ratio, 2):>24}")
                figures.append({"job": job, "name": name, "records": records, "rate": rate, "cpu": cpu, "ratio": ratio, "rss": max(m.rss for m in ms)})
        if "latency" in args.jobs.split(","):
            figures += latency(work, args.cpu, 1 if args.quick else rounds, ["chrt", "-r", "1"] if args.realtime else [])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(figures))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
