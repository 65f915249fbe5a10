"""A running job goes on with other workers, with a supervisor and without, and nobody sees it in what it puts out."""
import json
import subprocess
import time

import pytest

import conftest
from test_exactly_once import Kafka, counted, job, load


def ask(file, *args):
    return subprocess.run([conftest.BINARY, *args, str(file)], capture_output=True, text=True, timeout=150)


def status(file):
    run = ask(file, "status", "--json")
    return json.loads(run.stdout) if run.returncode == 0 else {}


@pytest.mark.parametrize("restart", ["", "restart: {type: fixedDelayRestart, attempts: 5, delay: 10ms}"])
def test_one_three_two(kafka, prefix, millrace, tmp_path, restart):
    names = load(kafka, prefix, 5, 60_000)
    calm = Kafka(kafka, prefix, tmp_path, "calm")
    assert millrace(job(kafka, prefix, tmp_path, names, "calm", "Kafka", calm, 2)).code == 0
    place = Kafka(kafka, prefix, tmp_path, "scaled")
    file = job(kafka, prefix, tmp_path, names, "scaled", "Kafka", place, 1)
    bounded = file.read_text()
    # It reads on for ever, so that it is there to be asked.
    file.write_text(bounded.replace(", bounded: true", "").replace("run_env:\n", f"run_env:\n  {restart}\n"))
    live = millrace(file, wait=False)
    end = time.time() + 60
    while status(file).get("state") != "running" and time.time() < end:
        time.sleep(0.05)
    for workers in (3, 2):
        time.sleep(0.4)
        run = ask(file, "rescale", "--workers", str(workers))
        assert run.returncode == 0 and run.stdout.startswith(f"{workers} workers go on from "), run.stderr + live.err_file.read_text()
        assert status(file)["workers"] == workers
    if restart:
        # A run that is killed is followed by one with the workers that the job has now.
        pid = status(file)["pid"]
        subprocess.run(["kill", "-9", str(pid)], check=True)
        end = time.time() + 60
        while (s := status(file)).get("state") != "running" or s["pid"] == pid:
            assert time.time() < end, s
            time.sleep(0.05)
        assert status(file)["workers"] == 2
    stop = ask(file, "stop")
    assert stop.returncode == 0, stop.stderr
    run = live.wait()
    assert run.code == 0, run.err
    file.write_text(bounded)
    run = millrace(file, args=["--workers", "3"])
    assert run.code == 0, run.err
    assert counted(place) == counted(calm)
