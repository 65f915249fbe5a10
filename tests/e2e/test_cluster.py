"""Jobs of several processes: killed, stopped and woken, moved to other numbers of workers and processes; and what they say when they do
not fit together. The undisturbed run of one process is what all of them must publish."""
import concurrent.futures
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time

import pytest
import redis

import jobs
import places
import servers
import test_exactly_once as once
import topics
from conftest import BINARY, Job, Run

RESTART = "run_env.restart.type=fixedDelayRestart", "run_env.restart.attempts=1000", "run_env.restart.delay=50ms"
SECRET = {"MILLRACE_SECRET": "0123456789abcdef0123456789abcdef"}


def settings(*pairs):
    return [a for pair in pairs for a in ("--set", pair)]


def children(pid):
    try:
        return [int(p) for p in open(f"/proc/{pid}/task/{pid}/children").read().split()]
    except FileNotFoundError:
        return []


class Process:
    """One of several processes, started by hand."""

    def __init__(self, tmp, topology, hosts, i, args=(), env=None):
        file = tmp / f"hosts-{'-'.join(h.split(':')[1] for h in hosts)}"
        file.write_text("\n".join(hosts) + "\n")
        self.err_file = tmp / f"err-{time.monotonic_ns()}-{i}.txt"
        self.summary_file = self.err_file.with_suffix(".json")
        command = [BINARY, "run", str(topology), "--process", str(i), "--hosts", str(file), "--summary", str(self.summary_file), *map(str, args)]
        self.process = subprocess.Popen(command, env={**os.environ, **SECRET, **(env or {})}, stdout=subprocess.DEVNULL, stderr=open(self.err_file, "w"), cwd=tmp)

    def wait(self, timeout=120):
        self.process.wait(timeout)
        summary = json.loads(self.summary_file.read_text()) if self.summary_file.exists() else None
        return Run(self.process.returncode, "", self.err_file.read_text(), summary)


@pytest.fixture
def processes(tmp_path):
    """Starts processes of a job; those that are left are killed, stopped ones too."""
    all = []

    def start(topology, hosts, i, args=(), env=None):
        all.append(Process(tmp_path, topology, hosts, i, args, env))
        return all[-1]

    yield start
    for p in all:
        if p.process.poll() is None:
            p.process.kill()
            p.process.wait()


def hosts(count):
    first = servers.free_ports(count)
    return [f"127.0.0.1:{first + i}" for i in range(count)]


@pytest.fixture(scope="module")
def shared(kafka, tmp_path_factory):
    """Input by number of rows, and what an undisturbed run makes of it: loaded once for all tests."""
    tmp, known = tmp_path_factory.mktemp("shared"), {}

    def get(count):
        if count not in known:
            prefix = f"shared{os.getpid()}-{count}-"
            names = once.load(kafka, prefix, 1, count)
            calm = once.Kafka(kafka, prefix, tmp, "calm")
            run = Job(tmp, once.job(kafka, prefix, tmp, names, f"calm{count}", "Kafka", calm, 1)).wait()
            assert run.code == 0, run.err
            known[count] = names, once.counted(calm)
            assert known[count][1]["pairs"].total() > count and known[count][1]["windows"].total() > 500
        return known[count]

    return get


@pytest.mark.parametrize("sink", places.ALL, ids=lambda sink: sink.__name__)
def test_random_processes_of_three_are_killed(kafka, prefix, millrace, tmp_path, chaos, request, sink, shared, ledger):
    """Kafka -> dedup, interval join, count window -> each sink. 5 rounds, with --chaos 40 a seed; those that an earlier call of it has
    seen end well, with the same executable, are not done again."""
    kind, server, rounds = sink.__name__, request.getfixturevalue(sink.fixture), 40 * chaos or 5
    names, want = shared(20_000 if chaos else 10_000)
    done = ledger(f"three-{kind}") if chaos else {}

    def one(seed):
        rng, name = random.Random(seed), f"killed{seed}"
        place = sink(server, prefix, tmp_path, name)
        topology = once.job(kafka, prefix, tmp_path, names, name, kind, place, 1)
        live = millrace(topology, args=["--processes", 3, "--workers", 1, *settings(*RESTART)], wait=False)
        kills, wanted = 0, rng.randint(2, 6 if chaos else 4)
        while live.process.poll() is None and kills < wanted:
            time.sleep(rng.uniform(0.05, 0.6 if kills == 0 else 1.2))
            alive = children(live.process.pid)
            if alive:
                os.kill(rng.choice(alive), signal.SIGKILL)
                kills += 1
        run = live.wait()
        assert run.code == 0, run.err
        wrong = places.complaints(want, once.counted(place))
        assert not wrong, f"seed {seed}, {kills} kills: (missing, twice or wrong) {wrong}\n{run.err[-3000:]}"
        done[seed] = kills
        shutil.rmtree(tmp_path / f"state-{name}")

    todo = [seed for seed in range(rounds) if seed not in done]
    # Most of a round is waiting: for the broker, for the dead.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(one, todo))
    total = sum(done[seed] for seed in range(rounds))
    print(f"{kind}: {rounds} rounds of 3 processes ({rounds - len(todo)} of them earlier), {total} kills: {want['pairs'].total()} pairs and "
          f"{want['windows'].total()} windows each, missing 0, twice 0")
    assert total >= rounds


def zombies(kafka, prefix, millrace, tmp_path, processes, name, stop, names, want):
    """Two processes of which `stop` stops one; the other ends; a new generation begins; the stopped one is woken in its midst."""
    place = once.Kafka(kafka, prefix, tmp_path, name)
    topology = once.job(kafka, prefix, tmp_path, names, name, "Kafka", place, 1)
    args = ["--workers", 1, "--peer-timeout", "2s", "--quiet"]
    old = stop(topology, args)
    zombie = next(p for p in old if is_stopped(p))
    for p in old:
        if p is not zombie:
            run = p.wait(60)
            assert run.code == 3 and "was silent for 2s" in run.err, run.err
    for attempt in range(3):
        where = hosts(2)
        new = [processes(topology, where, i, args) for i in range(2)]
        if attempt == 0:
            time.sleep(0.6)
            zombie.process.send_signal(signal.SIGCONT)
        runs = [p.wait() for p in new]
        if all(r.code == 0 for r in runs):
            break
        # One that was stopped while it took its writers over goes on with that when it wakes up: another start takes them back.
        assert attempt < 2 and all(r.code == 3 for r in runs) and any("taken over" in r.err for r in runs), runs[0].err + runs[1].err
    run = zombie.wait(30)
    assert run.code != 0, run.err
    wrong = places.complaints(want, once.counted(place))
    assert not wrong, f"{name}: (missing, twice or wrong) {wrong}\n{run.err}"
    return run


def is_stopped(p):
    try:
        return open(f"/proc/{p.process.pid}/stat").read().rsplit(") ", 1)[1].startswith("T")
    except FileNotFoundError:
        return False


def wait_for(what, seconds=60):
    end = time.time() + seconds
    while time.time() < end:
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about")


def test_a_stopped_process_that_wakes_up_writes_nothing(kafka, prefix, millrace, tmp_path, processes, chaos, shared):
    names, want = shared(20_000 if chaos else 10_000)
    def one(course):
        seed, point, which = course

        name = f"{point or 'random'}{seed}-{which}"

        def stop(topology, args):
            where = hosts(2)
            env = {"MILLRACE_POINT": f"{point}:{2 + seed % 3}:stop"} if point else None
            all = [processes(topology, where, i, args, env if i == which else None) for i in range(2)]
            if not point:
                # All are at work.
                wait_for(lambda: any((tmp_path / f"state-{name}").glob("*/*/slots/*")))
                time.sleep(random.Random(seed).uniform(0, 0.3))
                all[which].process.send_signal(signal.SIGSTOP)
            wait_for(lambda: is_stopped(all[which]))
            return all

        run = zombies(kafka, prefix, millrace, tmp_path, processes, name, stop, names, want)
        print(f"seed {seed}, process {which} stopped {point and 'at ' + point or 'at some time'}, woken: {run.err.splitlines()[0]}")

    points = (None, 0), (None, 1), ("slot-linked", 0), ("before-apply", 1), ("txn-sent", 1), ("txn-committed", 0)
    # Most of it is waiting until the others have noticed.
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        list(pool.map(one, [(seed, *course) for seed in range(chaos or 1) for course in points]))


LOOKUP = """
name: {name}
run_env:
  time_characteristic: EventTime
  state_dir: state
  checkpoint: {{interval: 100ms, mode: exactly_once}}
  dead_letter: {{type: File, config: {{path: out/dead.jsonl}}}}
stores:
  names: {{type: Redis, config: {{url: "redis://{redis}", key: "{prefix}{{{{k}}}}", value: hash, timeout: 1s}}}}
""" + once.WITH_FALLBACK


def test_moved_to_other_workers_and_processes_in_mid_stream(kafka, redis_server, prefix, millrace, tmp_path, processes):
    """1 -> 3 -> 2 workers, then from one process to two and back: each stop finds timers set, and look-ups that the stopped store does not answer."""
    names = [prefix + "left", prefix + "right"]
    topics.create(kafka, *names)
    rows = dict(once.sides(3, 60_000))
    parts = 9

    def offer(i):
        for name, out in rows.items():
            topics.produce(kafka, prefix + name, out[len(out) * i // parts:len(out) * (i + 1) // parts])

    client = redis.Redis("127.0.0.1", redis_server.port)
    for i in range(0, once.KEYS, 2):
        client.hset(f"{prefix}k{i}", "id", 1_000_000 + i)

    def topology(name, place):
        stream = {side: once.STREAM.format(brokers=kafka.address, topic=topic, group=prefix + name) for side, topic in zip(("left", "right"), names)}
        file = tmp_path / f"{name}.yaml"
        file.write_text(LOOKUP.format(name=name, redis=redis_server.address, prefix=prefix, pairs=place.config("pairs"), windows=place.config("windows"), **stream))
        return file

    moved = once.Kafka(kafka, prefix, tmp_path, "moved")
    file = topology("moved", moved)
    endless = settings(*[f"streams.{side}.config.source.config.bounded=false" for side in ("left", "right")])
    shapes = ["--workers", 1], ["--workers", 3], ["--workers", 2], ["--processes", 2, "--workers", 1]
    for i, shape in enumerate(shapes):
        before = once.counted(moved)["pairs"].total()
        offer(2 * i)
        live = millrace(file, args=[*shape, *endless], wait=False)
        wait_for(lambda: once.counted(moved)["pairs"].total() > before)
        pids = redis_server.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            offer(2 * i + 1)
            wait_for(lambda: "the store does not answer" in live.err_file.read_text())
            run = live.stop()
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert run.code == 0, run.err
        assert run.summary["stores"][0]["errors"] > 0, "no look-up was in flight when the run was stopped"
    offer(parts - 1)
    run = millrace(file, args=["--processes", 1, "--workers", 2])
    assert run.code == 0, run.err
    calm = once.Kafka(kafka, prefix, tmp_path, "calm")
    run = millrace(topology("calm", calm))
    assert run.code == 0, run.err
    want = once.counted(calm)
    assert want["windows"].total() > 1_000
    wrong = places.complaints(want, once.counted(moved))
    assert not wrong, wrong
    print(f"moved {len(shapes)} times with look-ups in flight: {want['pairs'].total()} pairs, {want['windows'].total()} windows: missing 0, twice 0")


SMALL = {"streams": {"in": {"config": {"source": {"type": "Inline", "config": {"lines": ["a", "b", "c"]}}}}},
         "sink": [{"type": "File", "name": "out", "config": {"path": "out/{worker}.jsonl", "on_exists": "truncate"}}]}


def test_processes_that_do_not_fit_say_why(millrace, tmp_path, processes):
    file = jobs.write_job(tmp_path, SMALL)
    other = tmp_path / "other.yaml"
    other.write_text(file.read_text().replace('"c"', '"d"'))
    short = ["--connect-timeout", "1s"]

    def two(first, second):
        where = hosts(2)
        return [processes(t, where, i, [*short, *args], env).wait for i, (t, args, env) in enumerate((first, second))]

    runs = [w() for w in two((file, [], None), (file, [], {"MILLRACE_SECRET": "another secret that is long"}))]
    assert [r.code for r in runs] == [3, 1]
    assert "process 1 at 127.0.0.1:" in runs[0].err and "did not answer within 1s" in runs[0].err and "has another secret" in runs[0].err
    assert "process 0 at 127.0.0.1:" in runs[1].err and "has another secret" in runs[1].err

    runs = [w() for w in two((file, [], None), (other, [], None))]
    assert [r.code for r in runs] == [3, 1]
    assert all("it has another topology: hash " in r.err for r in runs), [r.err for r in runs]

    runs = [w() for w in two((file, ["--workers", 1], None), (file, ["--workers", 2], None))]
    assert [r.code for r in runs] == [3, 1]
    assert all("it runs 2 workers, here are 1 a process" in r.err for r in runs), [r.err for r in runs]

    alone = processes(file, hosts(2), 0, short).wait()
    assert alone.code == 3 and "process 1 at 127.0.0.1:" in alone.err and "did not answer within 1s" in alone.err
    alone = processes(file, hosts(2), 1, short).wait()
    assert alone.code == 3 and "process 0 at 127.0.0.1:" in alone.err and "did not answer within 1s" in alone.err

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = [f"127.0.0.1:{taken.getsockname()[1]}", *hosts(1)]
        run = processes(file, where, 0, short).wait()
        assert run.code == 3 and f"process 0 cannot listen at {where[0]}" in run.err, run.err


def test_a_command_line_that_cannot_be(tmp_path):
    file = jobs.write_job(tmp_path, SMALL)
    (tmp_path / "hosts").write_text("127.0.0.1:7001\n127.0.0.1:7002\n")
    (tmp_path / "bad").write_text("127.0.0.1\n")
    env = {k: v for k, v in os.environ.items() if k != "MILLRACE_SECRET"}
    for args, more, code, want in [
        (["--process", "2", "--hosts", "hosts"], SECRET, 2, "--process 2: hosts has 2 lines"),
        (["--process", "0", "--hosts", "bad"], SECRET, 2, "line 1: `127.0.0.1` is not host:port"),
        (["--process", "0", "--hosts", "none"], SECRET, 3, "the hosts file none cannot be read"),
        (["--process", "0"], SECRET, 2, "--hosts"),
        (["--process", "0", "--hosts", "hosts"], {}, 2, "MILLRACE_SECRET"),
        (["--process", "0", "--hosts", "hosts", "--secret-file", "none"], {}, 3, "the secret cannot be read from none"),
        (["--process", "0", "--hosts", "hosts"], {"MILLRACE_SECRET": "short"}, 1, "has 5 bytes"),
        (["--process", "0", "--hosts", "hosts", "--limit", "5"], SECRET, 1, "a limit of records"),
    ]:
        run = subprocess.run([BINARY, "run", str(file), *args], env={**env, **more}, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert run.returncode == code and want in run.stderr, (args, run.returncode, run.stderr)


def test_the_summary_is_the_jobs_and_a_stop_of_one_is_a_stop_of_all(tmp_path, processes):
    follow = json.loads(json.dumps(SMALL))
    follow["streams"]["in"]["config"]["source"] = {"type": "File", "config": {"path": "in-*.jsonl", "mode": "follow", "start": "beginning"}}
    for i in range(4):
        (tmp_path / f"in-{i}.jsonl").write_text("x\n" * (10 + i))
    file = jobs.write_job(tmp_path, follow)
    where = hosts(2)
    all = [processes(file, where, i, ["--workers", 1]) for i in range(2)]
    written = lambda: sum(f.read_text().count("\n") for f in (tmp_path / "out").glob("*.jsonl")) if (tmp_path / "out").exists() else 0
    wait_for(lambda: written() == 46)
    all[1].process.terminate()
    runs = [p.wait() for p in all]
    assert [r.code for r in runs] == [0, 0], [r.err for r in runs]
    assert (runs[0].summary["in"], runs[0].summary["out"], runs[0].summary["workers"]) == (46, 46, 2)
    assert 0 < runs[1].summary["in"] < 46
