"""The sink `ClickHouse` against the server's engine: every type, nulls and defaults, refused rows, kill -9 of the server."""
import json
import time
import urllib.error
import urllib.parse
import urllib.request

import jobs

FIELDS = {"id": "bigint", "s": "string", "n": "bigint", "d": "double", "price": "decimal(18,2)", "ok": "boolean", "at": "timestamp",
          "tags": "array", "m": "map", "j": "json"}
TABLE = """(id UInt64, s String DEFAULT 'none', n Nullable(Int64), d Float64, price Nullable(Decimal(18, 2)), ok Nullable(Bool),
    at Nullable(DateTime64(3, 'Asia/Shanghai')), tags Array(String), m Map(String, String), j String, loaded DateTime DEFAULT now(),
    twice UInt64 MATERIALIZED id * 2) ENGINE = MergeTree ORDER BY id"""


def ask(server, sql, **settings):
    query = urllib.parse.urlencode(settings)
    try:
        with urllib.request.urlopen(f"http://{server.address}/?{query}", sql.encode(), timeout=60) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as e:
        raise AssertionError(e.read().decode()) from e


def table(server, prefix, columns=TABLE):
    name = prefix.replace("-", "_") + "t"
    ask(server, f"CREATE TABLE {name} {columns}")
    return name


def write(millrace, tmp_path, server, name, rows, fields=FIELDS, wait=True, env=None, **config):
    jobs.jsonl(tmp_path / "in.jsonl", rows)
    source = {"config": {"source": {"type": "File", "config": {"path": "in.jsonl"}},
                         "operates": [{"type": "StringToMap", "config": {"format": "json", "fields": fields}}]}}
    sink = {"type": "ClickHouse", "name": "out", "config": {"url": f"http://{server.address}", "table": name, **config}}
    job = jobs.write_job(tmp_path, {"streams": {"in": source}, "sink": [sink], "run_env": {"time_characteristic": "ProcessingTime", **(env or {})}})
    return millrace(job, wait=wait)


def dead(tmp_path):
    return sorted((r["reason"], json.loads(r["body"])["id"]) for r in jobs.read(tmp_path / "out" / "dead.jsonl"))


def test_all_types_nulls_and_defaults(clickhouse, prefix, millrace, tmp_path):
    name = table(clickhouse, prefix)
    rows = [
        {"id": 1, "s": 'ü"\\\n', "n": -5, "d": 1e300, "price": 12.30, "ok": True, "at": "2024-02-29T12:00:00.250Z", "tags": ["x", "y"],
         "m": {"k": "v", "n": 1}, "j": {"a": [1, None]}},
        {"id": 2, "s": "", "n": 9223372036854775807, "d": -0.0, "price": 9999999999999.99, "ok": False, "at": "1969-12-31T23:59:59.999Z",
         "tags": [], "m": {}, "j": [1]},
        {"id": 3, "s": None, "n": None, "d": None, "price": None, "ok": None, "at": None, "tags": None, "m": None, "j": None},
        {"id": 4},
    ]
    for compression in ("lz4", "none"):
        ask(clickhouse, f"TRUNCATE TABLE {name}")
        run = write(millrace, tmp_path, clickhouse, name, rows, compression=compression)
        assert run.code == 0, run.err
        got = [json.loads(line) for line in ask(
            clickhouse, f"SELECT * EXCEPT (loaded, at), toString(toTimeZone(at, 'UTC')) AS at, twice, loaded > '2020-01-01' AS l FROM {name} "
            "ORDER BY id FORMAT JSONEachRow", output_format_json_quote_64bit_integers=0, output_format_json_quote_decimals=1).splitlines()]
        default = {"s": "none", "n": None, "d": 0, "price": None, "ok": None, "tags": [], "m": {}, "j": "", "at": None, "l": 1}
        assert got == [
            {"id": 1, "s": 'ü"\\\n', "n": -5, "d": 1e300, "price": "12.3", "ok": True, "tags": ["x", "y"], "m": {"k": "v", "n": "1"},
             "j": '{"a":[1,null]}', "at": "2024-02-29 12:00:00.250", "twice": 2, "l": 1},
            {"id": 2, "s": "", "n": 9223372036854775807, "d": 0, "price": "9999999999999.99", "ok": False, "tags": [], "m": {}, "j": "[1]",
             "at": "1969-12-31 23:59:59.999", "twice": 4, "l": 1},
            {"id": 3, "twice": 6, **default},
            {"id": 4, "twice": 8, **default},
        ]
        jobs.adds_up(run)


def test_what_does_not_fit_stands_alone(clickhouse, prefix, millrace, tmp_path):
    name = table(clickhouse, prefix, "(id UInt64, n UInt8, e Enum8('a' = 1, 'b' = 2), u UUID, at DateTime, CONSTRAINT small CHECK n < 200) "
                 "ENGINE = MergeTree ORDER BY id")
    good = {"n": 1, "e": "a", "u": "61f0c404-5cb3-11e7-907b-a6006ad3dba0", "at": "2024-01-01T00:00:00Z"}
    rows = [{"id": i, **good} for i in range(1000)]
    wrong = {17: {"n": 256}, 18: {"n": -1}, 99: {"at": "1969-12-31T23:59:59Z"}, 500: {"e": "c"}, 501: {"u": "none"}, 777: {"n": 250}}
    for i, values in wrong.items():
        rows[i].update(values)
    fields = {"id": "bigint", "n": "bigint", "e": "string", "u": "string", "at": "timestamp"}
    run = write(millrace, tmp_path, clickhouse, name, rows, fields)
    assert run.code == 0, run.err
    assert dead(tmp_path) == sorted([("value-does-not-fit", i) for i in (17, 18, 99)] + [("refused-by-clickhouse", i) for i in (500, 501, 777)])
    got = ask(clickhouse, f"SELECT id FROM {name} ORDER BY id").split()
    assert got == [str(i) for i in range(1000) if i not in wrong]
    jobs.adds_up(run)


def test_one_sentence(clickhouse, prefix, millrace, tmp_path):
    name = table(clickhouse, prefix)
    for fields, table_name, said in [
        ({"id": "string"}, name, "is UInt64, which values of type string do not fit"),
        ({"idd": "bigint"}, name, "has no column `idd`"),
        ({"twice": "bigint"}, name, "is computed by the server"),
        ({"id": "bigint"}, name + "x", "does not exist in ClickHouse"),
    ]:
        run = write(millrace, tmp_path, clickhouse, table_name, [{"id": 1}], fields)
        assert run.code == 3 and said in run.err and "panicked" not in run.err, run.err


def test_kill_loses_nothing(clickhouse, prefix, millrace, tmp_path):
    name = table(clickhouse, prefix, "(id UInt64, s String) ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 10000")
    count = 400_000
    rows = [{"id": i, "s": f"row {i}"} for i in range(count)]
    job = write(millrace, tmp_path, clickhouse, name, rows, {"id": "bigint", "s": "string"}, wait=False, batch_rows=5000, batch_time="20ms")

    def seen():
        return int(ask(clickhouse, f"SELECT count() FROM {name}"))

    for _ in range(3):
        before = seen()
        while seen() < before + 10_000 and job.process.poll() is None:
            time.sleep(0.01)
        clickhouse.kill()
        time.sleep(1)
        clickhouse.start()
    run = job.wait(240)
    assert run.code == 0, run.err
    assert "sent again" in run.err, "it was away while the job wrote"
    assert ask(clickhouse, f"SELECT count(), uniqExact(id), min(id), max(id) FROM {name}").split() == [str(count), str(count), "0", str(count - 1)]
    jobs.adds_up(run)
