"""The sink and the store `Redis` against a real server: every mode and type, refused rows, kill -9 of the server, look-ups."""
import json
import time

import pytest
import redis

import jobs

ROWS = [
    {"id": "a", "n": 1, "d": 1.5, "price": "12.30", "ok": True, "at": "2024-02-29T12:00:00.250Z", "tags": ["x", "y"], "m": {"k": "ü"}},
    {"id": "b", "n": -9223372036854775808, "d": -0.25, "price": "0.01", "ok": False, "at": "1969-12-31T23:59:59Z", "tags": [], "m": {}},
    {"id": "c", "n": None, "d": None, "price": None, "ok": None, "at": None, "tags": None, "m": None},
    {"id": "d"},
]
FIELDS = {"id": "string", "n": "bigint", "d": "double", "price": "decimal(18,2)", "ok": "boolean", "at": "timestamp", "tags": "array", "m": "map"}


@pytest.fixture
def client(redis_server):
    return redis.Redis("127.0.0.1", redis_server.port, decode_responses=True)


def source(path, fields=FIELDS):
    return {"config": {
        "source": {"type": "File", "config": {"path": path}},
        "operates": [{"type": "StringToMap", "config": {"format": "json", "fields": fields}}]}}


def sink(server, prefix, **config):
    return {"type": "Redis", "name": "out", "config": {"url": f"redis://{server.address}", "key": prefix + "{{id}}", **config}}


def write(millrace, tmp_path, rows, sink, fields=FIELDS, **kwargs):
    jobs.jsonl(tmp_path / "in.jsonl", rows)
    job = jobs.write_job(tmp_path, {"streams": {"in": source("in.jsonl", fields)}, "sink": [sink], "run_env": {"time_characteristic": "ProcessingTime"}})
    return millrace(job, **kwargs)


def dead(tmp_path):
    return [(r["reason"], json.loads(r["body"])["id"]) for r in jobs.read(tmp_path / "out" / "dead.jsonl")]


def test_text_of_all_types(redis_server, client, prefix, millrace, tmp_path):
    run = write(millrace, tmp_path, ROWS, sink(redis_server, prefix, ttl="1h"))
    assert run.code == 0, run.err
    assert {r: client.get(prefix + r) for r in "abcd"} == {
        "a": '{"id":"a","n":1,"d":1.5,"price":12.30,"ok":true,"at":"2024-02-29T12:00:00.250Z","tags":["x","y"],"m":{"k":"ü"}}',
        "b": '{"id":"b","n":-9223372036854775808,"d":-0.25,"price":0.01,"ok":false,"at":"1969-12-31T23:59:59Z","tags":[],"m":{}}',
        "c": '{"id":"c","n":null,"d":null,"price":null,"ok":null,"at":null,"tags":null,"m":null}',
        "d": '{"id":"d"}',
    }
    assert 3500 < client.ttl(prefix + "a") <= 3600
    jobs.adds_up(run)


def test_hash_of_all_types(redis_server, client, prefix, millrace, tmp_path):
    client.hset(prefix + "c", mapping={"n": "old", "other": "stays"})
    client.hset(prefix + "d", mapping={"n": "old"})
    run = write(millrace, tmp_path, ROWS, sink(redis_server, prefix, mode="hset", columns=["n", "d", "price", "ok", "at", "tags", "m"]))
    assert run.code == 0, run.err
    assert client.hgetall(prefix + "a") == {
        "n": "1", "d": "1.5", "price": "12.30", "ok": "true", "at": "2024-02-29T12:00:00.250Z", "tags": '["x","y"]', "m": '{"k":"ü"}'}
    assert client.hgetall(prefix + "c") == {"other": "stays"}, "null deletes the field"
    assert client.hgetall(prefix + "d") == {"n": "old"}, "a missing field stays"
    assert jobs.part(run, "out")["dropped"] == {"no-fields": 1}


def test_streams_lists_sets_counters(redis_server, client, prefix, millrace, tmp_path):
    rows = [{"id": "k", "n": i, "d": i / 2} for i in range(100)]
    fields = {"id": "string", "n": "bigint", "d": "double"}

    def run(mode, **config):
        done = write(millrace, tmp_path, rows, sink(redis_server, f"{prefix}{mode}-", mode=mode, **config), fields)
        assert done.code == 0, done.err
        return f"{prefix}{mode}-k"

    assert [e for _, e in client.xrange(run("xadd", columns=["n"]))] == [{"n": str(i)} for i in range(100)]
    assert client.lrange(run("lpush", columns=["n"], max_len=3), 0, -1) == ['{"n":99}', '{"n":98}', '{"n":97}']
    assert client.lrange(run("rpush", format="text", template="{{n}}", max_len=3), 0, -1) == ["97", "98", "99"]
    assert client.smembers(run("sadd", format="csv", columns=["n"])) == {str(i) for i in range(100)}
    assert client.zrangebyscore(run("zadd", score="d", format="csv", columns=["n"]), 48, 49, withscores=True) == [("96", 48.0), ("97", 48.5), ("98", 49.0)]
    assert client.get(run("incrby", by="n")) == str(sum(range(100)))
    assert client.exists(run("set")) and not client.exists(run("del").replace("del-", "set-x"))


def test_refused_rows_stand_alone(redis_server, client, prefix, millrace, tmp_path):
    client.set(prefix + "r3", "a string")
    rows = [{"id": f"r{i}", "n": i} for i in range(10)]
    run = write(millrace, tmp_path, rows, sink(redis_server, prefix, mode="hset", columns=["n"]), {"id": "string", "n": "bigint"})
    assert run.code == 0, run.err
    assert dead(tmp_path) == [("refused-by-redis", "r3")]
    assert [client.hget(f"{prefix}r{i}", "n") for i in range(10) if i != 3] == [str(i) for i in range(10) if i != 3]
    jobs.adds_up(run)


def test_one_sentence(redis_server, prefix, millrace, tmp_path):
    away = sink(redis_server, prefix)
    away["config"]["url"] = "redis://127.0.0.1:1"
    run = write(millrace, tmp_path, ROWS, away)
    assert run.code == 3 and "cannot connect to Redis at `127.0.0.1:1`: connection refused" in run.err, run.err
    run = write(millrace, tmp_path, ROWS, sink(redis_server, prefix, username="nobody", password="looking-glass"))
    assert run.code == 3 and "Password authentication failed" in run.err and "looking-glass" not in run.err, run.err


def test_kill_loses_nothing(redis_server, client, prefix, millrace, tmp_path):
    rows = [{"id": str(i), "n": i} for i in range(200_000)]
    job = write(millrace, tmp_path, rows, sink(redis_server, prefix, batch=200), {"id": "string", "n": "bigint"}, wait=False)
    for _ in range(3):
        before = client.dbsize()
        while client.dbsize() < before + 5000 and job.process.poll() is None:
            time.sleep(0.01)
        redis_server.kill()
        time.sleep(1)
        redis_server.start()
    run = job.wait()
    assert run.code == 0, run.err
    assert "cannot connect" in run.err or "does not answer" in run.err, "it was away while the job wrote"
    lost = [i for i in range(0, len(rows), 1000) for j, v in enumerate(client.mget([f"{prefix}{k}" for k in range(i, i + 1000)]))
            if v != '{"id":"%d","n":%d}' % (i + j, i + j)]
    assert not lost, f"{len(lost)} of {len(rows)} are lost"
    jobs.adds_up(run)


@pytest.mark.parametrize("value", ["json", "hash", "text"])
def test_lookup(value, redis_server, client, prefix, millrace, tmp_path):
    for i in range(0, 500, 2):
        key = f"{prefix}{i}"
        {"json": lambda: client.set(key, json.dumps({"pos": i, "who": {"name": f"ü{i}"}})),
         "hash": lambda: client.hset(key, mapping={"pos": i, "who.name": f"ü{i}"}),
         "text": lambda: client.set(key, i)}[value]()
    fields = {"pos": {"column": "pos", "type": "bigint"}, "name": "who.name"}
    if value == "text":
        fields = {"pos": {"column": "value", "type": "bigint"}}
    jobs.jsonl(tmp_path / "in.jsonl", [{"id": str(i % 500)} for i in range(2000)] + [{"id": ""}])
    job = jobs.write_job(tmp_path, {
        "run_env": {"time_characteristic": "ProcessingTime"},
        "stores": {"redis": {"type": "Redis", "config": {"url": f"redis://{redis_server.address}", "key": prefix + "{{id}}", "value": value}}},
        "streams": {"in": source("in.jsonl", {"id": "string"})},
        "transforms": [{"type": "Lookup", "name": "looked", "config": {"store": "redis", "fields": fields}}],
        "sink": [jobs.file_sink("looked")]})
    run = millrace(job)
    assert run.code == 0, run.err
    got = {r["id"]: (r["pos"], r.get("name")) for r in jobs.read(tmp_path / "out" / "looked.jsonl")}
    assert got == {**{str(i): (i, None if value == "text" else f"ü{i}") if i % 2 == 0 else (None, None) for i in range(500)}, "": (None, None)}


def test_fallback_of_a_join_outlives_a_kill(redis_server, client, prefix, millrace, tmp_path):
    count = 3000
    clicks = [{"id": str(i), "ts": jobs.BASE + i * 10} for i in range(count)]
    shown = [{"id": str(i), "ts": jobs.BASE + i * 10, "pos": i} for i in range(0, count, 3)]
    pipe = client.pipeline()
    for i in range(1, count, 3):
        pipe.hset(f"{prefix}{i}", mapping={"pos": -i})
    pipe.execute()
    jobs.jsonl(tmp_path / "clicks.jsonl", clicks)
    jobs.jsonl(tmp_path / "shown.jsonl", shown)
    job = jobs.write_job(tmp_path, {
        "stores": {"redis": {"type": "Redis", "config": {"url": f"redis://{redis_server.address}", "key": prefix + "{{id}}", "value": "hash", "batch": 20}}},
        "streams": {"clicks": jobs.stream("clicks.jsonl", {"id": "string", "ts": "bigint"}, 0),
                    "shown": jobs.stream("shown.jsonl", {"id": "string", "ts": "bigint", "pos": "bigint"}, 0)},
        "transforms": [{"type": "IntervalLeftJoin", "name": "joined", "left": "clicks", "right": "shown", "config": {
            "keys": ["id"], "lower": "-1s", "upper": "1s", "fallback": "redis", "right_fields": {"pos": "pos"}, "unmatched": "emit"}}],
        "sink": [jobs.file_sink("joined")]})
    redis_server.kill()
    try:
        # It needs the server to start, and loses it again while it asks.
        redis_server.start()
        run = millrace(job, wait=False)
        while run.process.poll() is None and not (tmp_path / "out" / "joined.jsonl").exists():
            time.sleep(0.01)
        redis_server.kill()
        time.sleep(1)
    finally:
        redis_server.start()
    run = run.wait()
    assert run.code == 0, run.err
    got = {r["id"]: r["pos"] for r in jobs.read(tmp_path / "out" / "joined.jsonl")}
    assert got == {str(i): (i, -i, None)[i % 3] for i in range(count)}
