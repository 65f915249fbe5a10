"""Faults at named places: whatever happens, a run that goes on publishes what one undisturbed run does, or says clearly why it does not."""
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

import topics
from test_exactly_once import KEYS, Kafka, counted, job, load

#: Where a run over Kafka can die. The first few runs of a round die there.
POINTS = ["outbox-synced", "ack-sent", "before-slot", "slot-linked", "before-apply", "txn-begun", "txn-sent", "txn-committed", "applied-unrecorded", "fence-half", "fenced", "restore-half"]


@pytest.fixture(scope="module")
def data(kafka, tmp_path_factory):
    """Input that all tests share, and what an undisturbed run makes of it."""
    from conftest import Job
    tmp, p = tmp_path_factory.mktemp("chaos"), f"chaos{os.getpid()}-"
    names = load(kafka, p, 23, 20_000)
    calm = Kafka(kafka, p, tmp, "calm")
    run = Job(tmp, job(kafka, p, tmp, names, "calm", "Kafka", calm, 2)).wait()
    assert run.code == 0, run.err
    return names, counted(calm)


def UNBOUNDED(text):
    """The sources read on: the run does not end before whatever is waited for."""
    return text.replace(", bounded: true", "")


class Round:
    """One job of a test, over the shared input, with a place of its own."""

    def __init__(self, kafka, prefix, millrace, tmp, data, name="chaos"):
        (self.names, self.want), self.kafka, self.prefix, self.millrace, self.tmp, self.name = data, kafka, prefix, millrace, tmp, name
        self.place = Kafka(kafka, prefix, tmp, name)
        self.state = tmp / f"state-{name}" / name

    def file(self, workers=2, edit=lambda text: text):
        file = job(self.kafka, self.prefix, self.tmp, self.names, self.name, "Kafka", self.place, workers)
        file.write_text(edit(file.read_text()))
        return file

    def run(self, workers=2, point=None, edit=lambda text: text, **more):
        env = {"MILLRACE_POINT": point} if point else {}
        return self.millrace(self.file(workers, edit), env=env, **more)

    def finish(self, workers=2, **more):
        run = self.run(workers, **more)
        assert run.code == 0, run.err
        self.exact()

    def exact(self):
        got = counted(self.place)
        for which in self.want:
            missing, twice = self.want[which] - got[which], got[which] - self.want[which]
            assert not missing and not twice, f"{which}: missing {missing.total()} {sorted(missing)[:3]}, twice or wrong {twice.total()} {sorted(twice)[:3]}"

    def killed_at_slot(self, number=4, workers=2):
        """Ends right after this many checkpoints were taken; the source reads on, so that there are as many."""
        run = self.run(workers, f"slot-linked:{number}:kill", edit=UNBOUNDED)
        assert run.code == -9, run.err

    def slots(self):
        return sorted(self.state.glob("*/slots/*"))


@pytest.fixture
def one(kafka, prefix, millrace, tmp_path, data):
    return Round(kafka, prefix, millrace, tmp_path, data)


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point(one, chaos, point):
    rng = random.Random(point)
    # What happens once a start is reached in every run; other points may not be reached in a short one.
    late = point in ("fence-half", "fenced", "restore-half")
    kills = 0
    if not late:
        run = one.run(rng.randint(1, 3), f"{point}:1:kill", edit=UNBOUNDED)
        kills += run.code == -9
    for _ in range(2 + 3 * chaos):
        run = one.run(rng.randint(1, 3), f"{point}:{1 if late else rng.randint(1, 4)}:kill")
        assert run.code in (0, -9), run.err
        kills += run.code == -9
    assert kills > 0 or point == "restore-half"
    one.finish(rng.randint(1, 3))


def test_a_stopped_run_that_wakes_behind_its_successor_changes_nothing(one):
    old = one.millrace(one.file(2, UNBOUNDED), env={"MILLRACE_POINT": "slot-linked:2:stop"}, wait=False)
    deadline = time.time() + 60
    while state_of(old.process.pid) != "T":
        assert time.time() < deadline and old.process.poll() is None
        time.sleep(0.02)
    one.finish(3)
    os.kill(old.process.pid, signal.SIGCONT)
    run = old.wait()
    assert run.code in (1, 3) and "taken over" in run.err, run.err
    one.exact()


def state_of(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_second_instance_takes_over(one):
    first = one.millrace(one.file(1, UNBOUNDED), env={"MILLRACE_POINT": "before-slot:3:stop"}, wait=False)
    deadline = time.time() + 60
    while state_of(first.process.pid) != "T":
        assert time.time() < deadline and first.process.poll() is None
        time.sleep(0.02)
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


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing"])
@pytest.mark.parametrize("what", ["slots", "files"])
def test_damage_is_said_and_another_checkpoint_goes_on(one, what, how):
    one.killed_at_slot()
    slots = [s for s in one.slots() if b'"manifest"' in s.read_bytes()[:20]]
    if what == "slots":
        damage(slots[-1], how)
    else:
        newest = json.loads(slots[-1].read_bytes().split(b"\n")[0])["manifest"]
        states = [f["name"] for o in newest["operators"] for p in o["pieces"] for f in p["files"].values()]
        damage(slots[-1].parent.parent / "files" / states[0], how)
    before = counted(one.place)
    run = one.run(2)
    if (what, how) == ("slots", "missing"):
        # A checkpoint that is not there was never taken.
        assert run.code == 0, run.err
        one.exact()
        return
    assert run.code == 4 and ("damaged" in run.err or "missing" in run.err), run.err
    # What the checkpoint has to publish may be out before the damage is seen.
    after = counted(one.place)
    assert all(not before[w] - after[w] and not after[w] - one.want[w] for w in before), "wrong in silence"
    older = int(slots[-2].name)
    run = one.run(2, args=["--from", older])
    if run.code != 0:
        assert run.code in (1, 4) and "--accept-duplicates" in run.err, run.err
        run = one.run(2, args=["--from", older, "--accept-duplicates"])
    assert run.code == 0, run.err
    got = counted(one.place)
    assert all(not (one.want[w] - got[w]) for w in got), "nothing is missing"


def test_a_start_from_an_older_checkpoint_is_refused_by_appending_sinks(one):
    one.killed_at_slot()
    slots = [int(s.name) for s in one.slots() if b'"manifest"' in s.read_bytes()[:20]]
    run = one.run(2, args=["--from", slots[0]])
    assert run.code == 1 and "would publish again" in run.err and "rows" in run.err, run.err
    one.finish(1)


NOBODY = 65534


def test_a_folder_that_is_read_only_fails_checkpoints_and_then_the_job(one):
    live = one.millrace(one.file(2, UNBOUNDED), wait=False)
    deadline = time.time() + 60
    while len(one.slots()) < 3:
        assert time.time() < deadline and live.process.poll() is None, live.err_file.read_text()
        time.sleep(0.02)
    (instance,) = [d for d in one.state.iterdir() if (d / "slots").is_dir()]
    # Root may write anywhere, but not into what is no folder.
    shutil.move(instance / "files", instance / "away")
    (instance / "files").write_text("")
    run = live.wait()
    # Whichever comes first: checkpoints that fail, or one that was taken and cannot be published.
    assert run.code == 3 and ("checkpoints in a row failed, 5 are tolerated" in run.err or "cannot be read" in run.err), run.err
    (instance / "files").unlink()
    shutil.move(instance / "away", instance / "files")
    one.finish(1)


def test_a_full_disk_fails_checkpoints_and_then_the_job(one):
    """Files that are longer than a limit cannot be written, as on a disk that is full."""
    script = one.tmp / "limited.sh"
    import conftest
    script.write_text(f'#!/bin/bash\ntrap "" XFSZ\nulimit -f 40\nexec {conftest.BINARY} "$@"\n')
    script.chmod(0o755)
    one.killed_at_slot(2)
    run = subprocess.run([script, "run", one.file(2, lambda t: UNBOUNDED(t.replace("tolerable_failures: 5", "tolerable_failures: 1"))), "-q"],
                         capture_output=True, text=True, cwd=one.tmp, timeout=120)
    assert run.returncode == 3 and "checkpoints in a row failed, 1 are tolerated" in run.stderr, (run.returncode, run.stderr[-2000:])
    one.finish(2)


def test_partitions_added_while_the_job_is_away(kafka, prefix, millrace, tmp_path):
    """`start: latest` too: what a checkpoint did not know is read from its beginning."""
    out = prefix + "out"
    topics.create(kafka, prefix + "in", out)
    file = tmp_path / "grow.yaml"

    def write(bounded):
        file.write_text(f"""
name: grow
run_env: {{state_dir: state, checkpoint: {{interval: 50ms}}}}
streams: {{in: {{config: {{source: {{type: Kafka, config: {{brokers: "{kafka.address}", topics: ["{prefix}in"], start: latest, bounded: {bounded}}}}}}}}}}}
sink: [{{type: Kafka, config: {{brokers: "{kafka.address}", topic: "{out}", format: text, template: "{{{{_value}}}}"}}}}]
""")
        return file

    live = millrace(write("false"), wait=False)
    deadline = time.time() + 60
    while not list((tmp_path / "state" / "grow").glob("*/slots/00000003")):
        assert time.time() < deadline and live.process.poll() is None, live.err_file.read_text()
        time.sleep(0.02)
    topics.produce(kafka, prefix + "in", [(None, f"a{i}", i % 3) for i in range(300)])
    assert live.stop().code == 0
    admin = AdminClient({"bootstrap.servers": kafka.address})
    for future in admin.create_partitions([NewPartitions(prefix + "in", 5)]).values():
        future.result(30)
    while len(admin.list_topics(timeout=30).topics[prefix + "in"].partitions) < 5:
        time.sleep(0.05)
    topics.produce(kafka, prefix + "in", [(None, f"b{i}", i % 5) for i in range(500)])
    run = millrace(write("true"))
    assert run.code == 0, run.err
    got = sorted(m.value().decode() for m in topics.read(kafka, out))
    assert got == sorted([f"a{i}" for i in range(300)] + [f"b{i}" for i in range(500)])
