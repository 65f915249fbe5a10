"""Jobs that die and go on: one that reads what is there, and one whose input comes bit by bit."""
import pathlib
import random
import subprocess
import time

from places import Kafka, complaints, counted
from test_exactly_once import Feed, job

#: What every start passes.
START = ["fence-half", "fenced", "restore-half", "rescale-adopting"]
SEED, ROWS, PARTS = 23, 20_000, 80
GUARD = "guards: [{type: Rows, name: some, input: joined, over: 200ms, max: 1000000000}]\n"


def UNBOUNDED(text):
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
        wrong = complaints(self.want, counted(self.place))
        assert not wrong, f"(missing, twice or wrong) {wrong}"

    def killed_at_slot(self, number=4, workers=2):
        """Ends right after this many checkpoints were taken; the source reads on, so that there are as many."""
        run = self.run(workers, f"slot-linked:{number}:kill", edit=UNBOUNDED)
        assert run.code == -9, run.err

    def slots(self):
        return sorted(self.state.glob("*/slots/*"))


class Chain:
    """A job whose input comes bit by bit and whose runs die one after the other, each at its point and with other numbers of workers."""

    def __init__(self, kafka, server, prefix, millrace, tmp, sink, seed, without=""):
        self.kafka, self.prefix, self.millrace, self.tmp, self.sink, self.name = kafka, prefix, millrace, tmp, sink, f"chain{seed}"
        self.rng, self.workers, self.env = random.Random(seed), 2, {"MILLRACE_WITHOUT": without}
        self.shapes, self.interval = (1, 2, 3), 100
        self.feed = Feed(kafka, prefix, SEED, ROWS, PARTS)
        self.place = sink(server, prefix, tmp, self.name)

    def start(self, edit=UNBOUNDED, **env):
        self.workers = self.rng.choice([w for w in self.shapes if w != self.workers])
        file = job(self.kafka, self.prefix, self.tmp, self.feed.names, self.name, self.sink.__name__, self.place, self.workers)
        file.write_text(edit(file.read_text()).replace("interval: 100ms", f"interval: {self.interval}ms"))
        return self.millrace(file, env={**self.env, **env}, wait=False)

    def die(self, point):
        # Base markers pass the points of a commit too: some die there, some with rows.
        count = 1 if point in START + ["verdict-written"] else self.rng.randint(1, 14) if point.startswith("txn-") else self.rng.randint(1, 3)
        guarded = lambda text: UNBOUNDED(text) + (GUARD if point == "verdict-written" else "")
        live = self.start(guarded, MILLRACE_POINT=f"{point}:{count}:kill")
        end = time.time() + 60
        while live.process.poll() is None:
            assert time.time() < end, f"{point}:{count} was not reached, {self.feed.fed} of {PARTS} parts fed: {live.err_file.read_text()[-2000:]}"
            self.feed.next()
            try:
                live.process.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
        assert live.process.returncode == -9, f"{point}:{count}: {live.err_file.read_text()}"

    def run(self, points):
        """Dies at all points, and goes on to the end; what is published then."""
        for point in points:
            self.die(point)
        self.feed.rest()
        run = self.start(lambda text: text).wait()
        assert run.code == 0, run.err
        return counted(self.place)


def state_of(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def wait_for(what, live, seconds=60, every=0.02):
    end = time.time() + seconds
    while not what():
        assert time.time() < end and live.process.poll() is None, live.err_file.read_text()
        time.sleep(every)
