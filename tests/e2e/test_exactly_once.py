"""Jobs that are killed at any moment, any number of times, with any number of workers: together they publish what one undisturbed
run does, nothing missing, nothing twice."""
import json
import random
import time

import pytest

import jobs
import topics
from places import OUTPUTS, File, Kafka, complaints, counted

KEYS = 400
STREAM = """
    config:
      source: {{type: Kafka, config: {{brokers: "{brokers}", topics: ["{topic}"], group: "{group}", start: earliest, bounded: true}}}}
      operates: [{{type: StringToMap, config: {{format: json, fields: {{id: bigint, k: string, ts: bigint, v: bigint}}}}}}]
      watermark: {{field: ts, format: epoch_ms, max_out_of_orderness: 2s}}"""
JOB = """
name: {name}
run_env:
  time_characteristic: EventTime
  parallelism: {workers}
  state_dir: {state}
  checkpoint: {{interval: 100ms, mode: exactly_once, tolerable_failures: 5}}
streams:
  left: {left}
  right: {right}
transforms:
  - {{type: Dedup, name: once, input: left, config: {{keys: [id], within: 60s}}}}
  - {{type: IntervalLeftJoin, name: joined, left: once, right: right, config: {{keys: [k], lower: -1s, upper: 1s, right_fields: {{rid: id}}, unmatched: emit}}}}
  - {{type: KeyBy, name: raw, input: left, config: {{keys: [k]}}}}
  - {{type: CountWindowWithTimeOut, name: counts, input: raw, config: {{count: 10, timeout: 3s, aggregates: {{n: "count(*)", sum: "sum(v)"}}}}}}
  - {{type: KeyBy, name: by_key, input: joined, config: {{keys: [k]}}}}
  - {{type: CountWindowWithTimeOut, name: added, input: by_key, config: {{count: 10, timeout: 3s, aggregates: {{n: "count(*)", sum: "sum(v)"}}}}}}
sink:
  - {{type: {kind}, name: pairs, input: joined, config: {pairs}}}
  - {{type: {kind}, name: windows, input: counts, config: {windows}}}
  - {{type: {kind}, name: sums, input: added, config: {sums}}}
"""


#: A join that looks up in the store `names`, and windows beside it.
WITH_FALLBACK = """streams:
  left: {left}
  right: {right}
transforms:
  - {{type: IntervalLeftJoin, name: joined, left: left, right: right, config: {{keys: [k], lower: -1s, upper: 1s, right_fields: {{rid: id}}, fallback: names, on_store_error: wait, unmatched: emit}}}}
  - {{type: KeyBy, name: by_key, input: left, config: {{keys: [k]}}}}
  - {{type: CountWindowWithTimeOut, name: counts, input: by_key, config: {{count: 10, timeout: 3s, aggregates: {{n: "count(*)", sum: "sum(v)"}}}}}}
sink:
  - {{type: Kafka, name: pairs, input: joined, config: {pairs}}}
  - {{type: Kafka, name: windows, input: counts, config: {windows}}}
"""


def sides(seed, rows):
    """Rows of both sides in three partitions, a key in one of them; every tenth left row comes twice."""
    rng = random.Random(seed)
    for name in ("left", "right"):
        out = []
        for i in range(rows):
            k = rng.randrange(KEYS)
            line = json.dumps({"id": i, "k": f"k{k}", "ts": 1_700_000_000_000 + i * 20 - rng.randrange(1500), "v": rng.randrange(100)})
            out.append((str(k), line, k % 3))
            if name == "left" and rng.random() < 0.1:
                out.append((str(k), line, k % 3))
        yield name, out


def load(kafka, prefix, seed, rows):
    """All rows in two topics."""
    feed = Feed(kafka, prefix, seed, rows, 1)
    feed.next()
    return feed.names


class Feed:
    """The rows in two topics, part by part, so that a run in its midst never has all of them."""

    def __init__(self, kafka, prefix, seed, rows, parts):
        self.kafka, self.prefix, self.parts, self.fed = kafka, prefix, parts, 0
        self.names, self.rows = [prefix + "left", prefix + "right"], dict(sides(seed, rows))
        topics.create(kafka, *self.names)

    def next(self, parts=1):
        for name, out in self.rows.items():
            topics.produce(self.kafka, self.prefix + name, out[len(out) * self.fed // self.parts:len(out) * min(self.fed + parts, self.parts) // self.parts])
        self.fed = min(self.fed + parts, self.parts)

    def rest(self):
        self.next(self.parts - self.fed)


def job(kafka, prefix, tmp, names, name, kind, place, workers):
    stream = {side: STREAM.format(brokers=kafka.address, topic=topic, group=prefix + name) for side, topic in zip(("left", "right"), names)}
    text = JOB.format(name=name, workers=workers, state=tmp / f"state-{name}", kind=kind, **{w: place.config(w) for w in OUTPUTS}, **stream)
    file = tmp / f"{name}-{workers}.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("sink", [Kafka, File])
def test_killed_again_and_again(kafka, prefix, millrace, tmp_path, chaos, sink):
    kind = sink.__name__
    for seed in range(max(1, chaos)):
        rng = random.Random(seed)
        p = f"{prefix}{seed}-"
        names = load(kafka, p, seed, 30_000)
        calm = sink(kafka, p, tmp_path, "calm")
        begun = time.time()
        run = millrace(job(kafka, p, tmp_path, names, "calm", kind, calm, 2))
        whole = time.time() - begun
        assert run.code == 0, run.err
        want = counted(calm)
        assert want["pairs"].total() > 30_000 and len(want["windows"]) > 1_000

        # On a machine that got quicker meanwhile the job may be done before anybody kills it: then in shorter steps.
        for attempt in range(6):
            name, kills = f"killed{attempt}", 0
            place = sink(kafka, p, tmp_path, name)
            for _ in range(30):
                live = millrace(job(kafka, p, tmp_path, names, name, kind, place, rng.randint(1, 3)), wait=False)
                pause = rng.uniform(0.1, 0.7) * whole / 2**attempt if kills < 6 else 120
                end = time.time() + pause
                while live.process.poll() is None and time.time() < end:
                    time.sleep(0.01)
                if live.process.poll() is not None:
                    run = live.wait()
                    assert run.code == 0, run.err
                    break
                live.process.kill()
                live.process.wait()
                kills += 1
            wrong = complaints(want, counted(place))
            assert not wrong, f"seed {seed}, {kills} kills: (missing, twice or wrong) {wrong}"
            print(f"seed {seed}: {kills} kills, {want['pairs'].total()} pairs, {len(want['windows'])} windows: missing 0, twice 0")
            if kills > 1:
                break
        assert kills > 1


def test_a_stopped_job_goes_on_where_it_stood(kafka, prefix, millrace, tmp_path):
    names = load(kafka, prefix, 7, 30_000)
    calm = Kafka(kafka, prefix, tmp_path, "calm")
    begun = time.time()
    assert millrace(job(kafka, prefix, tmp_path, names, "calm", "Kafka", calm, 1)).code == 0
    whole = time.time() - begun
    place = Kafka(kafka, prefix, tmp_path, "stopped")
    stops = 0
    for workers in (1, 3, 2, 1, 2, 3, 1, 1):
        live = millrace(job(kafka, prefix, tmp_path, names, "stopped", "Kafka", place, workers), wait=False)
        time.sleep(0.3 * whole if stops < 5 else 0)
        finished = live.process.poll() is not None or stops >= 5
        run = live.wait() if finished else live.stop()
        assert run.code == 0, run.err
        if finished:
            break
        stops += 1
    assert counted(place) == counted(calm)
    # Nothing is left to do.
    run = millrace(job(kafka, prefix, tmp_path, names, "stopped", "Kafka", place, 2))
    assert run.code == 0 and run.summary["in"] == 0, run.err
    assert counted(place) == counted(calm)
