"""Dead letters of a job over Kafka go through it once more: each comes out once, whoever takes them and whatever is killed meanwhile."""
import json
import subprocess
import time

import topics
from conftest import BINARY

JOB = """
name: washed
run_env:
  state_dir: {state}
  checkpoint: {{interval: 100ms, mode: exactly_once, tolerable_failures: 5}}
streams:
  rows:
    config:
      source: {{type: Kafka, config: {{brokers: "{brokers}", topics: ["{topic}"], group: "{topic}", start: earliest}}}}
      operates: [{{type: StringToMap, config: {{format: json, fields: {{id: bigint, n: {n}}}}}}}]
sink:
  - {{type: Kafka, name: out, config: {{brokers: "{brokers}", topic: "{out}", format: json}}}}
"""
#: Kept as they came, though they are no text: they are rejected by every version of the job.
BROKEN = [b"\xff\xfe", b"no json", b""]


def rows(first, count):
    """Every third has no number, by partition; some are no rows at all."""
    made = [(b"k", json.dumps({"id": i, "n": f"many \u4e2d {i}" if i % 3 == 0 else i}, ensure_ascii=False).encode(), i % 3)
            for i in range(first, first + count)]
    return made + [(b"k", b, i % 3) for i, b in enumerate(BROKEN)]


def wanted(first, count, mended):
    return sorted(json.dumps([i, str(f"many \u4e2d {i}" if i % 3 == 0 else i)]) for i in range(first, first + count) if mended or i % 3)


class Washed:
    def __init__(self, kafka, prefix, millrace, tmp):
        self.kafka, self.millrace, self.tmp = kafka, millrace, tmp
        self.topic, self.out, self.file = prefix + "rows", prefix + "out", tmp / "washed.yaml"
        topics.create(kafka, self.topic, self.out)

    def version(self, n):
        self.file.write_text(JOB.format(state=self.tmp / "state", brokers=self.kafka.address, topic=self.topic, out=self.out, n=n))

    def starts(self):
        return self.millrace(self.file, wait=False)

    def written(self):
        """Rows that are committed: a row that is there twice stands twice."""
        return sorted(json.dumps([r["id"], str(r["n"])]) for r in (json.loads(m.value()) for m in topics.read(self.kafka, self.out)))

    def writes(self, want, job):
        """Waits until as many rows are there; that they are the right ones is seen at the end."""
        end = time.monotonic() + 120
        while len(got := self.written()) < len(want):
            assert time.monotonic() < end, f"{len(got)} of {len(want)} rows came"
            assert job.process.poll() is None, job.err_file.read_text()[-3000:]
            time.sleep(0.1)

    def letters(self):
        file = self.tmp / "state/dead-letter/washed.jsonl"
        return file.read_text().splitlines() if file.exists() else []

    def replay(self, *args):
        said = subprocess.run([BINARY, "replay", self.file, *args, "--json"], capture_output=True, text=True, cwd=self.tmp)
        assert said.returncode == 0, said.stderr
        return json.loads(said.stdout)


def test_letters_of_kafka_are_replayed_once_by_the_next_start_and_by_the_job_that_runs(kafka, prefix, millrace, tmp_path):
    job = Washed(kafka, prefix, millrace, tmp_path)
    job.version("bigint")
    topics.produce(kafka, job.topic, rows(0, 300))
    run = job.starts()
    job.writes(wanted(0, 300, False), run)
    assert run.stop().code == 0
    assert job.written() == wanted(0, 300, False)
    assert len(job.letters()) == 103

    # It does not run and has a checkpoint: its next start takes them, also if it is killed meanwhile.
    job.version("string")
    said = job.replay("--reason", "wrong-type")
    assert (said["way"], said["rows"]) == ("next-start", 100), said
    for committed in (1, 60):
        run = job.starts()
        job.writes(wanted(0, 300, False) + [""] * committed, run)
        run.process.kill()
        run.process.wait()
    run = job.starts()
    job.writes(wanted(0, 300, True), run)
    again = job.replay("--reason", "wrong-type")
    assert again["rows"] == 0 and "100 were replayed before" in " ".join(again["said"]), again

    # The job that runs takes those of a second wave at once. A version that rejects is needed for there to be some.
    assert run.stop().code == 0
    job.version("bigint")
    topics.produce(kafka, job.topic, rows(300, 300))
    run = job.starts()
    job.writes(wanted(0, 300, True) + wanted(300, 300, False), run)
    assert run.stop().code == 0
    job.version("string")
    run = job.starts()
    job.writes(wanted(0, 300, True) + wanted(300, 300, False), run)
    end = time.monotonic() + 60
    while (said := job.replay("--reason", "wrong-type", "--dry-run"))["way"] != "running":
        assert time.monotonic() < end, said
        time.sleep(0.1)
    said = job.replay("--reason", "wrong-type")
    assert (said["way"], said["rows"]) == ("running", 100), said
    job.writes(wanted(0, 300, True) + wanted(300, 300, False) + [""], run)
    run.process.kill()
    run.process.wait()
    run = job.starts()
    job.writes(wanted(0, 600, True), run)
    # What is no row is rejected again, and a new letter.
    said = job.replay()
    assert said["rows"] == 2 * len(BROKEN), said
    end = time.monotonic() + 60
    while len(job.letters()) < 206 + 2 * len(BROKEN):
        assert time.monotonic() < end, f"{len(job.letters())} letters"
        time.sleep(0.1)
    assert run.stop().code == 0
    assert job.written() == wanted(0, 600, True)
