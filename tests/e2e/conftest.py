import hashlib
import json
import os
import pathlib
import subprocess
import sys
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import servers

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARY = pathlib.Path(os.environ.get("MILLRACE", TARGET / "release" / "millrace"))


def pytest_addoption(parser):
    parser.addoption("--chaos", action="store_true", help="the long form of the fault tests: more seeds, longer outages")
    parser.addoption("--seed", type=int, default=1, help="which sinks and controls have their turn where not all have")
    parser.addoption("--seeds", type=int, default=5, help="how many seeds the long form takes")


@pytest.fixture(scope="session")
def chaos(request):
    """How many seeds of the long form; 0: the short one."""
    return request.config.getoption("--seeds") if request.config.getoption("--chaos") else 0


class Ledger(dict):
    """What went well, by seed, in a file that outlives the process."""

    def __init__(self, file):
        super().__init__()
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        for line in file.read_text().split("\n")[:-1] if file.exists() else []:
            super().__setitem__(*json.loads(line))

    def __setitem__(self, seed, figure):
        super().__setitem__(seed, figure)
        with open(self.file, "a") as f:
            f.write(json.dumps([seed, figure]) + "\n")


@pytest.fixture(scope="session")
def ledger():
    """Ledgers of the long form by name, for this executable alone."""
    with open(BINARY, "rb") as f:
        which = hashlib.file_digest(f, "sha256").hexdigest()[:16]
    folder = pathlib.Path(os.environ.get("MILLRACE_CACHE", TARGET)) / "chaos" / which
    return lambda name: Ledger(folder / f"{name}.jsonl")


@pytest.fixture(scope="session")
def seed(request):
    """Which of several controls has its turn."""
    return request.config.getoption("--seed")


@pytest.fixture(scope="session")
def kafka():
    server = servers.kafka()
    yield server
    server.end()


@pytest.fixture(scope="session")
def hbase():
    server = servers.hbase()
    yield server
    server.end()


@pytest.fixture(scope="session")
def redis_server():
    server = servers.redis()
    yield server
    server.end()


@pytest.fixture(scope="session")
def clickhouse():
    server = servers.clickhouse()
    yield server
    server.end()


@pytest.fixture
def prefix():
    """Sets one test's topics and tables apart from another's."""
    return f"t{uuid.uuid4().hex[:8]}-"


class Run:
    """A finished run: exit code, output, and the summary file as a dict."""

    def __init__(self, code, out, err, summary):
        self.code, self.out, self.err, self.summary = code, out, err, summary


class Job:
    """The executable, started on a topology."""

    def __init__(self, tmp, topology, env=None, args=()):
        self.summary_file = tmp / f"summary-{uuid.uuid4().hex[:6]}.json"
        self.err_file = tmp / f"err-{uuid.uuid4().hex[:6]}.txt"
        self.out_file = self.err_file.with_name(self.err_file.name.replace("err", "out"))
        full = dict(os.environ, STATE=str(tmp / "state"), OUT=str(tmp / "out"), **(env or {}))
        self.process = subprocess.Popen(
            [BINARY, "cluster" if "--processes" in args else "run", str(topology), "--summary", str(self.summary_file), *map(str, args)],
            env=full, stdout=open(self.out_file, "w"), stderr=open(self.err_file, "w"), cwd=tmp)

    def wait(self, timeout=120):
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running after {timeout} s:\n{self.err_file.read_text()[-4000:]}")
        summary = json.loads(self.summary_file.read_text()) if self.summary_file.exists() else None
        return Run(self.process.returncode, self.out_file.read_text(), self.err_file.read_text(), summary)

    def stop(self, timeout=60):
        self.process.terminate()
        return self.wait(timeout)


@pytest.fixture
def millrace(tmp_path):
    """Runs a topology to its end, or starts it with `wait=False`."""
    jobs = []

    def start(topology, env=None, args=(), wait=True, timeout=120):
        job = Job(tmp_path, topology, env, args)
        jobs.append(job)
        return job.wait(timeout) if wait else job

    yield start
    for job in jobs:
        if job.process.poll() is None:
            job.process.kill()
            job.process.wait()


@pytest.fixture(scope="session")
def data(kafka, tmp_path_factory):
    """Input that many tests share, and what an undisturbed run makes of it."""
    import places
    import rounds
    import test_exactly_once as once
    tmp, p = tmp_path_factory.mktemp("data"), f"data{os.getpid()}-"
    names = once.load(kafka, p, rounds.SEED, rounds.ROWS)
    calm = places.Kafka(kafka, p, tmp, "calm")
    run = Job(tmp, once.job(kafka, p, tmp, names, "calm", "Kafka", calm, 2)).wait()
    assert run.code == 0, run.err
    return names, places.counted(calm)


@pytest.fixture
def one(kafka, prefix, millrace, tmp_path, data):
    """A job over that input."""
    import rounds
    return rounds.Round(kafka, prefix, millrace, tmp_path, data)


def pytest_terminal_summary(terminalreporter):
    """What tests that passed have printed: the figures of their oracles."""
    said = [text for report in terminalreporter.stats.get("passed", []) for name, text in report.sections if name == "Captured stdout call"]
    if said:
        terminalreporter.section("figures")
        terminalreporter.write("".join(said))
