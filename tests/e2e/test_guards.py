"""Guards: what a job publishes while something goes wrong in its input, and after that was put right."""
import collections
import concurrent.futures
import json
import random
import time

import jobs
import topics

JOB = """
name: guarded-{name}
run_env:
  time_characteristic: EventTime
  parallelism: {workers}
  state_dir: {state}
  checkpoint: {{interval: 200ms, mode: exactly_once}}
streams:
  in:
    config:
      source: {{type: Kafka, config: {{brokers: "{brokers}", topics: ["{topic}"], start: earliest, bounded: {bounded}}}}}
      operates: [{{type: StringToMap, config: {{format: json, fields: {{id: bigint, k: string, ts: bigint, v: bigint, w: bigint}}}}}}]
      watermark: {{field: ts, format: epoch_ms, max_out_of_orderness: 1s}}
transforms:
  - {{type: Dedup, name: once, input: in, config: {{keys: [id], within: 60s}}}}
  - {{type: Map, name: mapped, input: once, config: {{set: {{n: "{expr}"}}}}}}
sink:
  - {{type: Kafka, name: out, input: mapped, config: {{brokers: "{brokers}", topic: "{out}", columns: [id, n], key: "{{{{k}}}}"}}}}
guards:
  - {{type: Nulls, name: values, input: mapped, field: n, over: 1s, max: 0.05}}
  - {{type: Rows, name: some, input: in, over: 1s, max: 100000}}
"""


def job(kafka, tmp, prefix, name, out, workers=2, expr="v", bounded="false"):
    file = tmp / f"{name}-{workers}-{bounded}-{len(expr)}.yaml"
    file.write_text(JOB.format(name=name, workers=workers, state=tmp / f"state-{name}", brokers=kafka.address, topic=prefix + "in", out=out, expr=expr, bounded=bounded))
    return file


def row(i, broken):
    """From some moment on the value comes under another name."""
    return (f"k{i % 20}", json.dumps({"id": i, "k": f"k{i % 20}", "ts": 1_700_000_000_000 + i * 2, ("w" if broken else "v"): i % 7}), i % 3)


def rows(kafka, topic):
    return collections.Counter((r["id"], r.get("n")) for r in (json.loads(m.value()) for m in topics.read(kafka, topic)))


def one(kafka, millrace, tmp, prefix, seed):
    rng = random.Random(seed)
    prefix = f"{prefix}{seed}-"
    name, out = f"s{seed}", prefix + "out"
    topics.create(kafka, prefix + "in", out)
    live = millrace(job(kafka, tmp, prefix, name, out, rng.randint(1, 3)), wait=False)
    begun, i, broken_at = time.time(), 0, None
    first_broken = None
    while live.process.poll() is None and time.time() < begun + 90:
        # Some time after the first rows were published.
        if broken_at is None and rows(kafka, out):
            broken_at = time.time() + rng.uniform(0, 2.0)
        broken = broken_at is not None and time.time() > broken_at
        if broken and first_broken is None:
            first_broken = i
        topics.produce(kafka, prefix + "in", [row(j, broken) for j in range(i, i + 40)])
        i += 40
        time.sleep(0.05)
    run = live.wait(30)
    assert run.code == 6 and "halted by guard `values`" in run.err, f"seed {seed}: {run.code} {run.err[-2000:]}"
    assert run.summary["ended"] == "halted_by_guard"
    seen = rows(kafka, out)
    wrong = [r for r in seen if r[1] is None or r[0] >= first_broken]
    assert seen and not wrong, f"seed {seed}: {len(seen)} rows, caused by the anomaly: {wrong[:3]}"
    # As it is the job halts again, at once or later; what it had published stays.
    run = millrace(job(kafka, tmp, prefix, name, out, 1, bounded="true"))
    assert run.code == 6, run.err
    # The topology is put right, and reads again what was discarded.
    run = millrace(job(kafka, tmp, prefix, name, out, rng.randint(1, 3), "coalesce(v, w)", "true"))
    assert run.code == 0, run.err
    got, want = rows(kafka, out), collections.Counter((j, j % 7) for j in range(i))
    missing, twice = want - got, got - want
    assert not missing and not twice, f"seed {seed}: missing {missing.total()}, twice or wrong {twice.total()}"
    return len(seen), i


def test_no_reader_sees_what_a_guard_was_red_for(kafka, prefix, millrace, tmp_path, chaos):
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        seeds = list(pool.map(lambda seed: one(kafka, millrace, tmp_path, prefix, seed), range(10 + 2 * chaos)))
    print("published before the anomaly, of all rows:", seeds)


def test_a_decision_survives_whoever_took_it(kafka, prefix, millrace, tmp_path):
    """Killed right after a verdict was written, before anything of it was published."""
    out = prefix + "out"
    topics.create(kafka, prefix + "in", out)
    topics.produce(kafka, prefix + "in", [row(i, False) for i in range(20_000)])
    file = job(kafka, tmp_path, prefix, "killed", out, 2, bounded="true")
    run = millrace(file, env={"MILLRACE_POINT": "verdict-written:1:kill"})
    assert run.code == -9 and not rows(kafka, out)
    run = millrace(file)
    assert run.code == 0, run.err
    assert rows(kafka, out) == collections.Counter((i, i % 7) for i in range(20_000))


def test_an_accepted_guard_lets_pass_until_it_is_green(kafka, prefix, millrace, tmp_path):
    out = prefix + "out"
    topics.create(kafka, prefix + "in", out)
    topics.produce(kafka, prefix + "in", [row(i, i > 500) for i in range(2_000)])
    file = job(kafka, tmp_path, prefix, "accepted", out, 2, bounded="true")
    assert millrace(file).code == 6 and not rows(kafka, out)
    run = millrace(file, args=["--accept-guard", "values"])
    assert run.code == 0 and "accepted until it is green" in run.err, run.err
    assert rows(kafka, out) == collections.Counter((i, None if i > 500 else i % 7) for i in range(2_000))
