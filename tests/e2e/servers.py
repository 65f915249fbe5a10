"""The real servers that the tests run against, as plain processes on free loopback ports in a temporary folder."""
import itertools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = HERE.parent / "servers"
ASKED = itertools.count()


def free_ports(count):
    """The first of `count` neighbouring free ports, below those that the system gives to outgoing connections: a client's connection would take
    a port from a server that is only being started, or started again. Each process looks from another place on."""
    for _ in range(2000):
        start = 12000 + (os.getpid() * 80 + next(ASKED) * 8) % 16000
        held = []
        try:
            for port in range(start, start + count):
                s = socket.socket()
                held.append(s)
                s.bind(("127.0.0.1", port))
            return start
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise RuntimeError("no free ports")


class Server:
    """One server: started, stopped, killed and started again on the same port with the same data."""

    replicas = 1

    def __init__(self, script, ports, *args, **env):
        self.script, self.args, self.env = script, args, dict(os.environ, **env)
        self.port = free_ports(ports)
        self.data = pathlib.Path(tempfile.mkdtemp(prefix=f"millrace-{script}-"))

    def start(self):
        run = subprocess.run([SCRIPTS / f"{self.script}.sh", self.data, str(self.port), *self.args], env=self.env, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"{self.script} did not start: {run.stderr}")
        return self

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def pids(self):
        return [int(f.read_text()) for f in self.data.glob("*.pid")]

    def kill(self):
        """kill -9 of all of its processes, at once."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        subprocess.run([SCRIPTS / "stop.sh", self.data, "KILL"], check=True)

    def end(self):
        subprocess.run([SCRIPTS / "stop.sh", self.data, "KILL"], check=False)
        shutil.rmtree(self.data, ignore_errors=True)


USER, PASSWORD = "alice", "wonderland"


def kafka():
    """Without passwords at `address`; PORT+2 and PORT+3 ask for USER and PASSWORD."""
    return Server("kafka", 4, KAFKA_USER=f"{USER}:{PASSWORD}").start()


class Cluster(Server):
    """Three brokers, each partition on all of them."""

    replicas = 3

    @property
    def address(self):
        return ",".join(f"127.0.0.1:{self.port + 2 * i}" for i in range(3))

    def kill_node(self, number):
        os.kill(int((self.data / f"node-{number}.pid").read_text()), signal.SIGKILL)


def kafka_cluster():
    return Cluster("kafka", 6, "3", KAFKA_HEAP="300m").start()


def hbase():
    return Server("hbase", 4).start()


#: The keys that s3.sh gives its server, whose bucket is `jobs`.
S3_KEY, S3_SECRET = "millrace", "wonderland"


def s3():
    return Server("s3", 1).start()


def redis():
    return Server("redis", 1).start()


def clickhouse():
    return Server("clickhouse", 1).start()


def hbase_table(server, table, family="d", splits=()):
    """A table split in advance."""
    run = subprocess.run([SCRIPTS / "hbase-table.sh", f"127.0.0.1:{server.port + 1}", table, family, *splits],
                         capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(run.stderr)
    return run.stdout.strip()
