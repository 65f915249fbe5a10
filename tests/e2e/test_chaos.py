"""Faults at named places: whatever happens, a run that goes on publishes what one undisturbed run does, or says clearly why it does not."""
import json
import os
import re
import signal
import time

import pytest
from confluent_kafka.admin import AdminClient

import places
from places import Kafka, complaints, counted
from rounds import START, UNBOUNDED, Chain, state_of, wait_for

#: Where a run can die, whatever its sinks, and where a sink's own commit can be cut off.
ENGINE = ["outbox-synced", "ack-sent", "before-slot", "slot-linked", "before-apply", "applied-unrecorded", "verdict-written"]
COMMIT = {sink: ["txn-begun", "txn-sent", "txn-committed"] for sink in places.ALL}
#: One script does all there.
COMMIT[places.Redis] = ["txn-begun", "txn-committed", "applied-unrecorded"]


@pytest.mark.parametrize("sink", places.ALL, ids=lambda sink: sink.__name__)
def test_killed_at_every_point(kafka, prefix, millrace, tmp_path, data, chaos, request, sink):
    """Kafka at all points, the others at three of their own commit; with --chaos all at all points."""
    server, whole = request.getfixturevalue(sink.fixture), chaos or sink is places.Kafka
    for seed in range(max(1, chaos)):
        chain = Chain(kafka, server, f"{prefix}{seed}-", millrace, tmp_path, sink, seed)
        points = list(dict.fromkeys(COMMIT[sink] + ENGINE + START)) if whole else COMMIT[sink]
        # What a start does with what it finds wants something to be found.
        first, rest = ["slot-linked"], chain.rng.sample(points, len(points))
        wrong = complaints(data[1], chain.run(first + rest))
        assert not wrong, f"{sink.__name__}, seed {seed}, killed at {first + rest}: (missing, twice or wrong) {wrong}"
        kept = [s for s in (tmp_path / f"state-{chain.name}" / chain.name).glob("*/slots/*") if b'"manifest"' in s.read_bytes()[:20]]
        # Beside the newest three there are such whose output the newest calls pending: on a slow machine some.
        chunks = lambda slot: set(re.findall(rb'"(g\d+-n\d+-w\d+-out-\d+)"', slot.read_bytes()))
        kept.sort()
        assert kept and all(chunks(s) & chunks(kept[-1]) for s in kept[:-3]), "old checkpoints are pruned"
        print(f"{sink.__name__}, seed {seed}: killed at {len(rest) + 1} points: missing 0, twice 0")


@pytest.mark.parametrize("sink", places.ALL, ids=lambda sink: sink.__name__)
def test_what_protections_are_good_for(kafka, prefix, millrace, tmp_path, data, seed, request, sink):
    """With one switched off the oracle must complain, or it would not notice a fault of the real thing either."""
    server, turn = request.getfixturevalue(sink.fixture), places.ALL.index(sink) + seed
    # Files are cut back to where their own writer left them, and what is written twice under one key does not show in HBase.
    without = "align" if sink in (places.File, places.HBase) or turn % 4 == 0 else "marker"
    points = {"marker": ["applied-unrecorded"] * 3, "align": ["slot-linked"] * 8}[without]
    for attempt in range(6):
        chain = Chain(kafka, server, f"{prefix}{attempt}-", millrace, tmp_path, sink, f"{seed}{attempt}", without)
        if without == "align":
            # Rows from behind a boundary come while it is open only if there are several workers, and much to read.
            chain.shapes, chain.interval = (2, 3), 30
            chain.feed.rest()
        wrong = complaints(data[1], chain.run(points))
        if wrong:
            print(f"{sink.__name__} without {without}, killed at {points[0]}: (missing, twice or wrong) {wrong}")
            return
    raise AssertionError(f"{sink.__name__}: nobody notices that {without} is off")


def woken(kafka, server, prefix, millrace, tmp, sink, seed, without=""):
    """A run stopped with a chunk in its hand, another that goes on to the end, and then the first one wakes up; what is published."""
    chain = Chain(kafka, server, prefix, millrace, tmp, sink, seed, without)
    old = chain.start(MILLRACE_POINT=f"before-apply:{chain.rng.randint(2, 5)}:stop")
    # Bit by bit: as many chunks as that there will be.
    wait_for(lambda: chain.feed.next() or state_of(old.process.pid) == "T", old, every=0.2)
    chain.feed.rest()
    run = chain.start(lambda text: text).wait()
    assert run.code == 0, run.err
    os.kill(old.process.pid, signal.SIGCONT)
    run = old.wait()
    assert without or run.code in (1, 3) and "taken over" in run.err, run.err
    return counted(chain.place)


def test_a_stopped_run_that_wakes_behind_its_successor_changes_nothing(kafka, prefix, millrace, tmp_path, data, chaos, seed, request):
    """One sink by the seed, all of them with --chaos. Without the fence the oracle must complain."""
    turn = places.ALL[seed % len(places.ALL)]
    for sink in places.ALL if chaos else [turn]:
        server = request.getfixturevalue(sink.fixture)
        wrong = complaints(data[1], woken(kafka, server, f"{prefix}{sink.__name__.lower()}-", millrace, tmp_path, sink, seed))
        assert not wrong, f"{sink.__name__}: (missing, twice or wrong) {wrong}"
    # On a slow machine all may be published before the run is stopped.
    courses = (woken(kafka, kafka, f"{prefix}bare{n}-", millrace, tmp_path, Kafka, f"bare{n}", "fence") for n in range(4))
    wrong = next(filter(None, (complaints(data[1], course) for course in courses)), None)
    assert wrong, "nobody notices that the fence is off"
    print(f"{turn.__name__}: a woken run changes nothing; Kafka without a fence: (missing, twice or wrong) {wrong}")


def test_a_second_instance_takes_over(one):
    first = one.millrace(one.file(1, UNBOUNDED), env={"MILLRACE_POINT": "before-slot:3:stop"}, wait=False)
    wait_for(lambda: state_of(first.process.pid) == "T", first)
    second = one.millrace(one.file(2), wait=False)
    time.sleep(0.2)
    os.kill(first.process.pid, signal.SIGCONT)
    ends = [first.wait(), second.wait()]
    assert 0 in [r.code for r in ends] and all(r.code in (0, 1, 3) for r in ends), [r.err[-500:] for r in ends]
    one.exact()


def test_a_lost_marker_stops_the_job(one):
    one.killed_at_slot(3)
    admin = AdminClient({"bootstrap.servers": one.kafka.address})
    groups = [g.group_id for g in admin.list_consumer_groups().result(30).valid if "millrace" in g.group_id or "-pairs-" in g.group_id or "-windows-" in g.group_id]
    mine = [g for g in groups if any(inst.name in g for inst in one.state.iterdir())]
    assert mine, groups
    for future in admin.delete_consumer_groups(mine).values():
        future.result(30)
    before = counted(one.place)
    run = one.run(2)
    assert run.code == 4 and "the marker of" in run.err, run.err
    assert counted(one.place) == before


def test_three_workers_come_back_as_two_with_output_pending(one):
    run = one.run(3, "before-apply:2:kill", edit=UNBOUNDED)
    assert run.code == -9, run.err
    one.finish(2)


def damage(file, how):
    content = bytearray(file.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
    file.unlink()
    if how != "missing":
        file.write_bytes(content if how == "flipped" else content[:-9])


def manifests(one):
    return [s for s in one.slots() if b'"manifest"' in s.read_bytes()[:20]]


def test_damage_is_said_and_another_checkpoint_goes_on(one):
    one.killed_at_slot()
    older, newest = manifests(one)[-2:]
    # Of the newest alone: files of the tier are shared with older ones.
    manifest, known = json.loads(newest.read_bytes().split(b"\n")[0])["manifest"], older.read_text()
    states = [name for o in manifest["operators"] for p in o["pieces"] for f in p["files"].values() if (name := f["name"]) not in known]
    state = newest.parent.parent / "files" / states[0]
    for file, how in [(newest, "flipped"), (newest, "truncated"), (state, "flipped"), (state, "truncated"), (state, "missing")]:
        content = file.read_bytes()
        damage(file, how)
        run = one.run(2)
        assert run.code == 4 and file.name in run.err and ("damaged" in run.err or "missing" in run.err), run.err
        # What a whole checkpoint had still to publish may be there now; nothing else, and nothing twice.
        assert all(not (got - one.want[w]) for w, got in counted(one.place).items() if w != "sums"), "wrong in silence"
        if how != "missing":
            file.write_bytes(content)
    run = one.run(2, args=["--from", int(older.name)])
    if run.code != 0:
        assert run.code == 1 and "--accept-duplicates" in run.err, run.err
        run = one.run(2, args=["--from", int(older.name), "--accept-duplicates"])
    assert run.code == 0, run.err
    got = counted(one.place)
    assert all(not (one.want[w] - got[w]) for w in got), "nothing is missing"


def test_a_checkpoint_that_is_not_there_was_never_taken(one):
    one.killed_at_slot()
    manifests(one)[-1].unlink()
    one.finish(2)


def test_a_start_from_an_older_checkpoint_is_refused_by_appending_sinks(one):
    one.killed_at_slot()
    run = one.run(2, args=["--from", int(manifests(one)[0].name)])
    assert run.code == 1 and "would publish again" in run.err and "rows" in run.err, run.err
    one.finish(1)
