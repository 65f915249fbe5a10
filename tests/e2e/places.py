"""Where jobs publish exactly once, and what lies there, as somebody who reads it sees it: one place a sink."""
import collections
import json
import threading
import urllib.request

import happybase
import redis

import servers
import topics

#: A job's outputs, with the fields of their rows.
WINDOW = ("k", "window_start", "window_last", "why", "n", "sum")
FIELDS = {"pairs": ("id", "k", "ts", "v", "rid"), "windows": WINDOW, "sums": WINDOW}
OUTPUTS = tuple(FIELDS)


class Kafka:
    """Output topics, read as somebody who must not see what was rolled back."""

    fixture = "kafka"

    def __init__(self, server, prefix, tmp, name):
        self.server, self.names = server, {w: f"{prefix}{name}-{w}" for w in OUTPUTS}
        topics.create(server, *self.names.values())

    def config(self, which):
        return json.dumps({"brokers": self.server.address, "topic": self.names[which], "key": "{{k}}"})

    def rows(self, which):
        return [m.value().decode() for m in topics.read(self.server, self.names[which])]


class File:
    """A folder of files that only grow."""

    fixture = "tmp_path"

    def __init__(self, _, prefix, tmp, name):
        self.dir = tmp / f"{prefix}{name}"
        self.dir.mkdir()

    def config(self, which):
        return json.dumps({"path": str(self.dir / f"{which}-{{worker}}.jsonl")})

    def rows(self, which):
        return [line for f in sorted(self.dir.glob(f"{which}-*.jsonl")) for line in f.read_text().splitlines()]


class HBase:
    """A table; each row has a key that tells all of it, so that only what is missing or wrong shows."""

    fixture = "hbase"
    made, making = set(), threading.Lock()

    def __init__(self, server, prefix, tmp, name):
        self.server, self.prefix = server, f"{prefix}{name}-"
        with HBase.making:
            if server.address not in HBase.made:
                servers.hbase_table(server, "places", "d")
                HBase.made.add(server.address)

    def config(self, which):
        key = f"{self.prefix}{which}|" + "|".join("{{%s}}" % f for f in FIELDS[which])
        return json.dumps({"thrift": self.server.address, "table": "places", "family": "d", "key": key, "marker_row": f"~{self.prefix}{which}"})

    def rows(self, which):
        connection = happybase.Connection("127.0.0.1", self.server.port, timeout=60_000)
        found = connection.table("places").scan(row_prefix=f"{self.prefix}{which}|".encode(), batch_size=5000)
        rows = [json.dumps({column.decode()[2:]: value.decode() for column, value in sorted(cells.items())}) for _, cells in found]
        connection.close()
        return rows


class Redis:
    """Lists, one a kind of row."""

    fixture = "redis_server"

    def __init__(self, server, prefix, tmp, name):
        self.server, self.prefix = server, f"{prefix}{name}-"

    def config(self, which):
        return json.dumps({"url": f"redis://{self.server.address}", "mode": "rpush", "key": self.prefix + which})

    def rows(self, which):
        with redis.Redis("127.0.0.1", self.server.port, decode_responses=True) as client:
            return client.lrange(self.prefix + which, 0, -1)


class ClickHouse:
    """Tables that remember inserts."""

    fixture = "clickhouse"

    def __init__(self, server, prefix, tmp, name):
        self.server, self.prefix = server, f"{prefix}{name}_".replace("-", "_")
        for which, fields in FIELDS.items():
            columns = ", ".join(f"{f} String" for f in fields)
            self.ask(f"CREATE TABLE {self.prefix}{which} ({columns}) ENGINE = MergeTree ORDER BY k SETTINGS non_replicated_deduplication_window = 10000")

    def ask(self, sql):
        with urllib.request.urlopen(f"http://{self.server.address}/", sql.encode(), timeout=60) as answer:
            return answer.read().decode()

    def config(self, which):
        return json.dumps({"url": f"http://{self.server.address}", "table": self.prefix + which, "columns": list(FIELDS[which])})

    def rows(self, which):
        return self.ask(f"SELECT * FROM {self.prefix}{which} FORMAT JSONEachRow").splitlines()


ALL = [Kafka, File, HBase, Redis, ClickHouse]


def row(line, fields):
    """A row as every place has it: texts, what is null empty."""
    found = json.loads(line)
    return tuple("" if found.get(f) is None else str(found[f]) for f in fields)


def counted(place):
    """What is published: pairs and windows as rows. How pairs fall into windows depends on which side of the join came first: of the
    windows behind it what they add up to, by key."""
    rows = {which: collections.Counter(row(line, FIELDS[which]) for line in place.rows(which)) for which in ("pairs", "windows")}
    rows["sums"] = collections.Counter()
    for line in place.rows("sums"):
        found = json.loads(line)
        rows["sums"].update({found["k"] + " n": int(found["n"]), found["k"] + " sum": int(found["sum"])})
    return rows


def complaints(want, got):
    """What the oracle finds: rows that are missing, and rows that are there twice or should not be there."""
    found = {w: (want[w] - got[w], got[w] - want[w]) for w in want}
    return {w: (m.total(), list(m)[:2], t.total(), list(t)[:2]) for w, (m, t) in found.items() if m or t}
