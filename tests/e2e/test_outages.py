"""Places that fill up, servers and brokers that go away, clocks that go wrong, input that is lopsided: the job goes on or says why it
does not, and together its runs publish what one undisturbed run does."""
import collections
import json
import mmap
import os
import random
import re
import signal
import struct
import subprocess
import time

import happybase
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

import conftest
import places
import servers
import test_exactly_once as once
import topics
from places import complaints, counted
from rounds import UNBOUNDED, Chain, state_of, wait_for
from test_cluster import settings


# --- places that checkpoints lie in -----------------------------------------------------------------------------------------------------

@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own below the state of the job `chaos`."""
    folder = tmp_path / "state-chaos"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(file):
    with open(file, "wb", buffering=0) as f:
        try:
            while True:
                f.write(bytes(1 << 16))
        except OSError:
            pass


def test_a_full_disk_fails_checkpoints_until_there_is_room_or_too_many_failed(small_disk, one):
    failed = re.compile(r"checkpoint \d+ failed: ")
    live = one.millrace(one.file(2, lambda t: UNBOUNDED(t).replace("tolerable_failures: 5", "tolerable_failures: 20")), wait=False)
    wait_for(lambda: len(one.slots()) >= 3, live)
    fill(small_disk / "ballast")
    wait_for(lambda: failed.search(live.err_file.read_text()), live)
    (small_disk / "ballast").unlink()
    newest = max(one.slots())
    wait_for(lambda: max(one.slots()).name > newest.name, live)
    fill(small_disk / "ballast")
    run = live.wait()
    assert run.code == 3 and "checkpoints in a row failed, 20 are tolerated" in run.err and "No space left on device" in run.err, run.err
    (small_disk / "ballast").unlink()
    one.finish(1)


def test_a_folder_that_is_read_only_fails_checkpoints_and_then_the_job(one):
    live = one.millrace(one.file(2, UNBOUNDED), wait=False)
    wait_for(lambda: len(one.slots()) >= 3, live)
    folders = [one.slots()[0].parent.parent / name for name in ("slots", "files")]
    # Root may write into every folder but those that nobody may change.
    forbid, allow = (["chattr", "+i"], ["chattr", "-i"]) if os.geteuid() == 0 else (["chmod", "a-w"], ["chmod", "u+w"])
    forbidden = subprocess.run([*forbid, *folders], capture_output=True, text=True)
    if forbidden.returncode:
        pytest.skip(f"no folder can be made read-only here: {forbidden.stderr}")
    try:
        run = live.wait()
    finally:
        subprocess.run([*allow, *folders], check=True)
    assert run.code == 3 and "checkpoints in a row failed, 5 are tolerated" in run.err and "Operation not permitted" in run.err, run.err
    one.finish(1)


# --- servers ----------------------------------------------------------------------------------------------------------------------------

def test_a_broker_killed_in_the_midst_of_a_transaction(kafka, one):
    """All rows are sent, nothing is committed, and the broker goes away and comes back."""
    live = one.millrace(one.file(2, UNBOUNDED), env={"MILLRACE_POINT": "txn-sent:9:stop"}, wait=False)
    wait_for(lambda: state_of(live.process.pid) == "T", live)
    kafka.kill()
    kafka.start()
    os.kill(live.process.pid, signal.SIGCONT)
    newest = max(one.slots()).name
    wait_for(lambda: max(one.slots()).name > newest, live)
    run = live.stop()
    assert run.code in (0, 3), run.err
    one.finish(3)


STORED = """
name: {name}
run_env:
  time_characteristic: EventTime
  state_dir: state
  memory: 512MiB
  checkpoint: {{interval: 200ms, mode: exactly_once}}
stores:
  names: {{type: HBase, config: {{thrift: "{hbase}", table: {table}, key: "{{{{k}}}}", family: d, timeout: 1s}}}}
""" + once.WITH_FALLBACK


def test_hbase_is_away_while_checkpoints_go_on(kafka, hbase, prefix, millrace, tmp_path, chaos):
    """60 s; with --chaos 5 minutes too."""
    table = prefix + "names"
    servers.hbase_table(hbase, table, "d")
    connection = happybase.Connection("127.0.0.1", hbase.port, timeout=60_000)
    with connection.table(table).batch() as batch:
        for i in range(0, once.KEYS, 2):
            batch.put(f"k{i}", {b"d:id": str(1_000_000 + i).encode()})
    connection.close()
    for away in (60, 300) if chaos else (60,):
        p, parts = f"{prefix}{away}-", 40
        feed = once.Feed(kafka, p, away, 10_000 + 200 * away, parts)

        def topology(name, place):
            stream = {side: once.STREAM.format(brokers=kafka.address, topic=topic, group=p + name) for side, topic in zip(("left", "right"), feed.names)}
            file = tmp_path / f"{name}{away}.yaml"
            file.write_text(STORED.format(name=name + str(away), hbase=hbase.address, table=table, pairs=place.config("pairs"), windows=place.config("windows"), **stream))
            return file

        place = once.Kafka(kafka, p, tmp_path, "away")
        file = topology("away", place)
        slots = lambda: [s for s in (tmp_path / "state" / f"away{away}").glob("*/slots/*") if b'"manifest"' in s.read_bytes()[:20]]
        newest = lambda: max((int(s.name) for s in slots()), default=0)
        feed.next(4)
        live = millrace(file, args=settings(*[f"streams.{side}.config.source.config.bounded=false" for side in ("left", "right")]), wait=False)
        wait_for(lambda: counted(place)["pairs"].total() > 0, live, every=0.3)
        hbase.kill()
        begun, before = time.time(), newest()
        try:
            while time.time() < begun + away:
                assert live.process.poll() is None, live.err_file.read_text()
                if feed.fed < parts - 4:
                    feed.next()
                time.sleep(away / parts)
            wait_for(lambda: "the store does not answer" in live.err_file.read_text(), live)
            during, held = newest() - before, memory(live.process.pid)
        finally:
            hbase.start()
        published = counted(place)["pairs"].total()
        wait_for(lambda: counted(place)["pairs"].total() > published, live, every=0.5)
        run = live.stop()
        assert run.code == 0, run.err
        # They take what they take on a busy machine; none waited for the store.
        assert during > away / 2, f"{during} checkpoints in {away} s"
        assert held < 512, f"{held} MiB of 512"
        feed.rest()
        run = millrace(file, args=["--workers", 2])
        assert run.code == 0, run.err
        calm = once.Kafka(kafka, p, tmp_path, "calm")
        run = millrace(topology("calm", calm))
        assert run.code == 0, run.err
        wrong = complaints(counted(calm), counted(place))
        assert not wrong, f"(missing, twice or wrong) {wrong}"
        print(f"HBase away for {away} s: {during} checkpoints meanwhile, at most {held} MiB of memory, missing 0, twice 0")


def memory(pid):
    """The most that a process ever had, MiB."""
    line = next(x for x in open(f"/proc/{pid}/status") if x.startswith("VmHWM"))
    return int(line.split()[1]) >> 10


def test_leaders_of_three_brokers_are_killed_in_turn(prefix, millrace, tmp_path, chaos):
    if not chaos:
        pytest.skip("three brokers take a while: --chaos")
    cluster = servers.kafka_cluster()
    try:
        chain = Chain(cluster, cluster, prefix, millrace, tmp_path, places.Kafka, 0)
        want = None
        live = chain.start()
        for node in (1, 2, 3, 1, 2, 3):
            chain.feed.next(5)
            before = counted(chain.place)["pairs"].total()
            cluster.kill_node(node)
            chain.feed.next(8)
            wait_for(lambda: counted(chain.place)["pairs"].total() > before, live, 120, 0.5)
            cluster.start()
        run = live.stop(120)
        assert run.code == 0, run.err
        got = chain.run([])
        calm = places.Kafka(cluster, prefix, tmp_path, "calm")
        run = millrace(once.job(cluster, prefix, tmp_path, chain.feed.names, "calm", "Kafka", calm, 2))
        assert run.code == 0, run.err
        want = counted(calm)
        wrong = complaints(want, got)
        assert not wrong, f"(missing, twice or wrong) {wrong}"
        print(f"three brokers, each killed twice: {want['pairs'].total()} pairs: missing 0, twice 0")
    finally:
        cluster.end()


# --- input ------------------------------------------------------------------------------------------------------------------------------

def test_partitions_added_while_the_job_is_away_and_while_it_runs(kafka, prefix, millrace, tmp_path):
    """`start: latest` too: what a checkpoint or the first list did not know is read from its beginning."""
    out = prefix + "out"
    topics.create(kafka, prefix + "in", out)
    file = tmp_path / "grow.yaml"

    def write(bounded):
        file.write_text(f"""
name: grow
run_env: {{state_dir: state, checkpoint: {{interval: 50ms}}}}
streams: {{in: {{config: {{source: {{type: Kafka, config: {{brokers: "{kafka.address}", topics: ["{prefix}in"], start: latest, discovery_interval: 100ms, bounded: {bounded}}}}}}}}}}}
sink: [{{type: Kafka, config: {{brokers: "{kafka.address}", topic: "{out}", format: text, template: "{{{{_value}}}}"}}}}]
""")
        return file

    admin = AdminClient({"bootstrap.servers": kafka.address})

    def grow(partitions):
        for future in admin.create_partitions([NewPartitions(prefix + "in", partitions)]).values():
            future.result(30)
        while len(admin.list_topics(timeout=30).topics[prefix + "in"].partitions) < partitions:
            time.sleep(0.05)

    got = lambda: sorted(m.value().decode() for m in topics.read(kafka, out))
    live = millrace(write("false"), wait=False)
    wait_for(lambda: list((tmp_path / "state" / "grow").glob("*/slots/00000003")), live)
    topics.produce(kafka, prefix + "in", [(None, f"a{i}", i % 3) for i in range(300)])
    assert live.stop().code == 0
    grow(5)
    topics.produce(kafka, prefix + "in", [(None, f"b{i}", i % 5) for i in range(500)])
    want = sorted([f"a{i}" for i in range(300)] + [f"b{i}" for i in range(500)])
    live = millrace(write("false"), wait=False)
    wait_for(lambda: got() == want, live, every=0.2)
    grow(7)
    topics.produce(kafka, prefix + "in", [(None, f"c{i}", i % 7) for i in range(700)])
    want = sorted(want + [f"c{i}" for i in range(700)])
    wait_for(lambda: got() == want, live, every=0.2)
    live.process.kill()
    live.process.wait()
    run = millrace(write("true"))
    assert run.code == 0, run.err
    assert got() == want


def test_a_bounded_read_ends_behind_marks_that_are_never_delivered(kafka, prefix, millrace, tmp_path):
    """What committed and aborted transactions leave at the end of a partition has offsets, and no rows."""
    topics.create(kafka, prefix + "in")
    producer = Producer({"bootstrap.servers": kafka.address, "transactional.id": prefix})
    producer.init_transactions()
    for part in range(4):
        producer.begin_transaction()
        for i in range(300):
            producer.produce(prefix + "in", f"{part} {i}", partition=i % 3)
        assert producer.flush(30) == 0
        producer.commit_transaction() if part in (0, 2) else producer.abort_transaction()
    (tmp_path / "copy.yaml").write_text(f"""
name: copy
streams: {{in: {{config: {{source: {{type: Kafka, config: {{brokers: "{kafka.address}", topics: ["{prefix}in"], start: earliest, bounded: true}}}}}}}}}}
sink: [{{type: File, config: {{path: out.txt, format: text, template: "{{{{_value}}}}"}}}}]
""")
    run = millrace(tmp_path / "copy.yaml")
    assert run.code == 0, run.err
    assert sorted((tmp_path / "out.txt").read_text().split("\n")[:-1]) == sorted(f"{part} {i}" for part in (0, 2) for i in range(300))


LOPSIDED = """
name: {name}
run_env: {{time_characteristic: EventTime, state_dir: state, checkpoint: {{interval: 100ms}}}}
streams:
  in:
    config:
      source: {{type: Kafka, config: {{brokers: "{brokers}", topics: ["{topic}"], group: "{topic}{name}", start: earliest, bounded: {bounded}}}}}
      operates: [{{type: StringToMap, config: {{format: json, fields: {{k: string, ts: bigint, v: bigint}}}}}}]
      watermark: {{field: ts, format: epoch_ms, max_out_of_orderness: 0s, idle_after: 300ms}}
transforms:
  - {{type: KeyBy, name: by_key, input: in, config: {{keys: [k]}}}}
  - {{type: CountWindowWithTimeOut, name: counts, input: by_key, config: {{count: 7, timeout: 2s, aggregates: {{n: "count(*)", sum: "sum(v)"}}}}}}
sink:
  - {{type: Kafka, name: windows, input: counts, config: {windows}}}
"""


def test_one_hot_key_and_a_partition_without_rows(kafka, prefix, millrace, tmp_path):
    """Nine rows of ten have one key, and one partition of two never has any: windows flow all the same, through two deaths."""
    topics.create(kafka, prefix + "in", partitions=2)
    rng, count = random.Random(5), 60_000
    rows = [("hot" if rng.random() < 0.9 else f"k{rng.randrange(100)}", i) for i in range(count)]
    topics.produce(kafka, prefix + "in", [(None, json.dumps({"k": k, "ts": 1_700_000_000_000 + i * 10, "v": i % 11}), 0) for k, i in rows])
    want, open_ = collections.Counter(), {}

    def close(k):
        times, total = open_.pop(k)
        want[k, times[0], len(times), total] += 1

    for k, i in rows:
        ts = 1_700_000_000_000 + i * 10
        if k in open_ and ts > open_[k][0][0] + 2_000:
            close(k)
        times, total = open_.get(k, ([], 0))
        open_[k] = (times + [ts], total + i % 11)
        if len(times) == 6:
            close(k)
    still_open = {(k, times[0]) for k, (times, _) in open_.items()}
    for k in list(open_):
        close(k)
    place = once.Kafka(kafka, prefix, tmp_path, "hot")

    def start(bounded, **env):
        file = tmp_path / f"hot-{bounded}.yaml"
        file.write_text(LOPSIDED.format(name="hot", brokers=kafka.address, topic=prefix + "in", bounded=bounded, windows=place.config("windows")))
        return millrace(file, env=env, args=["--workers", 3], wait=False)

    def got():
        found = (json.loads(line) for line in place.rows("windows"))
        return collections.Counter((r["k"], r["window_start"], r["n"], r["sum"]) for r in found)

    for point in ("slot-linked:1:kill", "slot-linked:2:kill"):
        assert start("false", MILLRACE_POINT=point).wait().code == -9
    live = start("false")
    closed = collections.Counter({w: n for w, n in want.items() if (w[0], w[1]) not in still_open})
    wait_for(lambda: not closed - got(), live, every=0.3)
    assert live.stop().code == 0
    run = start("true").wait()
    assert run.code == 0, run.err
    assert got() == want


def test_more_than_a_hundred_chunks_wait_in_one_outbox(millrace, tmp_path):
    """One interval gives them all; a run dies half-way through publishing them, the next goes on there."""
    count, text = 30_000, "x" * 2_000
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"id": i, "text": text}) + "\n" for i in range(count)))
    job = {"name": "large", "run_env": {"state_dir": "state", "memory": "64MiB", "checkpoint": {"interval": "10m"}},
           "streams": {"in": {"config": {"source": {"type": "File", "config": {"path": "in.jsonl"}},
                                         "operates": [{"type": "StringToMap", "config": {"format": "json", "fields": {"id": "bigint", "text": "string"}}}]}}},
           "sink": [{"type": "File", "name": "out", "config": {"path": "out.jsonl"}}]}
    file = tmp_path / "large.yaml"
    file.write_text(json.dumps(job))
    run = millrace(file, env={"MILLRACE_POINT": "applied-unrecorded:60:kill"})
    assert run.code == -9, run.err
    (manifest,) = [json.loads(s.read_bytes().split(b"\n")[0])["manifest"] for s in (tmp_path / "state").glob("*/*/slots/*") if b'"manifest"' in s.read_bytes()[:20]]
    chunks = [c for s in manifest["sinks"] for w in s["writers"].values() for c in w["chunks"]]
    assert len(chunks) > 100
    run = millrace(file)
    assert run.code == 0, run.err
    ids = [json.loads(line)["id"] for line in open(tmp_path / "out.jsonl")]
    assert ids == list(range(count))


# --- the clock --------------------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def shifted_clock(tmp_path_factory):
    """The environment of a process, and what sets its time of day, in seconds from the true one."""
    tmp = tmp_path_factory.mktemp("clock")
    library, file = tmp / "clock.so", tmp / "shift"
    built = subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, conftest.ROOT / "tests/e2e/clock.c"], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    file.write_bytes(bytes(8))
    with open(file, "r+b") as f:
        shift = mmap.mmap(f.fileno(), 8)
    return {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(file)}, lambda seconds: shift.__setitem__(slice(0, 8), struct.pack("q", seconds * 1_000_000))


BY_CLOCK = """
name: clock
run_env: {{time_characteristic: ProcessingTime, state_dir: state, checkpoint: {{interval: 100ms}}}}
streams:
  in:
    config:
      source: {{type: Kafka, config: {{brokers: "{brokers}", topics: ["{prefix}in"], group: "{prefix}clock", start: earliest}}}}
      operates: [{{type: StringToMap, config: {{format: json, fields: {{k: string, v: bigint}}}}}}]
transforms:
  - {{type: KeyBy, name: by_key, input: in, config: {{keys: [k]}}}}
  - {{type: CountWindowWithTimeOut, name: counts, input: by_key, config: {{count: 1000000, timeout: 300ms, aggregates: {{n: "count(*)", sum: "sum(v)"}}}}}}
sink:
  - {{type: Kafka, name: windows, input: counts, config: {{brokers: "{brokers}", topic: "{prefix}out"}}}}
"""


def test_the_clock_is_set_back(kafka, prefix, millrace, tmp_path, shifted_clock):
    """By an hour, in mid-run and before a restart: time-outs still come, nothing is missing or twice."""
    env, shift = shifted_clock
    topics.create(kafka, prefix + "in", prefix + "out")
    file = tmp_path / "clock.yaml"
    file.write_text(BY_CLOCK.format(brokers=kafka.address, prefix=prefix))
    want = collections.Counter()

    def offer(part):
        topics.produce(kafka, prefix + "in", [(None, json.dumps({"k": f"k{i % 10}", "v": part}), i % 3) for i in range(1000)])
        want.update({f"k{i}": 100 for i in range(10)})
        want.update({f"sum k{i}": 100 * part for i in range(10)})

    def got():
        found = collections.Counter()
        for m in topics.read(kafka, prefix + "out"):
            r = json.loads(m.value())
            found.update({r["k"]: r["n"], "sum " + r["k"]: r["sum"]})
        return found

    shift(0)
    live = millrace(file, env=env, wait=False)
    offer(1)
    wait_for(lambda: got() == want, live, every=0.2)
    shift(-3600)
    offer(2)
    wait_for(lambda: got() == want, live, every=0.2)
    live.process.kill()
    live.process.wait()
    # The checkpoint's time is an hour ahead of the new run's.
    live = millrace(file, env=env, wait=False)
    offer(3)
    wait_for(lambda: got() == want, live, every=0.2)
    run = live.stop()
    assert run.code == 0, run.err
    assert got() == want
