"""Who is told when a job needs somebody: a real HTTP listener and a real mail server."""
import email
import email.policy
import http.server
import json
import threading
import time

import pytest

import servers

TOKEN = "s3cret-token"
JOB = """
name: watched
run_env:
  state_dir: state
  {restart}
  checkpoint: {{interval: 50ms}}
  alerts: {{{receiver}, min_interval: {pause}}}
streams: {{in: {{config: {{source: {{type: File, config: {{path: in.jsonl}}}}, operates: [{{type: StringToMap, config: {{format: json, fields: {{a: bigint}}}}}}]}}}}}}
sink: [{{type: File, config: {{path: {out}}}}}]
guards: [{{type: RejectRate, name: bad, input: in, over: 100ms, max: 0.5}}]
"""


@pytest.fixture
def listener():
    """Takes POSTs; the first `refuse` of them are answered with 503."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if server.refuse > 0:
                server.refuse -= 1
                self.send_response(503)
            else:
                server.got.append((self.path, self.headers.get("x-token"), json.loads(body)))
                self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.refuse = [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def mail_server():
    server = servers.Server("smtp", 1).start()
    yield server
    server.end()


def mails(server):
    folder = server.data / "mail" / "new"
    return [email.message_from_bytes(f.read_bytes(), policy=email.policy.default) for f in sorted(folder.glob("*"))] if folder.exists() else []


def write(tmp, receiver, restart="", pause="1m", out="out.jsonl", rows=("1", "2")):
    (tmp / "in.jsonl").write_text("".join('{"a":%s}\n' % r for r in rows))
    file = tmp / "job.yaml"
    file.write_text(JOB.format(receiver=receiver, restart=restart, pause=pause, out=out))
    return file


def webhook(listener):
    return f'webhook: {{url: "http://127.0.0.1:{listener.server_port}/{TOKEN}", headers: {{x-token: {TOKEN}}}}}'


def test_a_guard_that_halts_the_job_is_told_by_webhook(listener, millrace, tmp_path):
    listener.refuse = 1
    run = millrace(write(tmp_path, webhook(listener), rows=["x"] * 20))
    assert run.code == 6, run.err
    (path, token, body), = listener.got
    assert (path, token, body["job"]) == (f"/{TOKEN}", TOKEN, "watched")
    assert [(e["event"], e["count"]) for e in body["events"]] == [("halted_by_guard", 1)]
    assert "halted by guard `bad`" in body["text"] and body["host"]
    assert TOKEN not in run.err


def test_who_cannot_be_reached_is_not_waited_for_and_no_secret_is_shown(listener, millrace, tmp_path):
    listener.refuse = 100
    run = millrace(write(tmp_path, webhook(listener), rows=["x"] * 20), args=["--log", "debug"])
    assert run.code == 6 and "the webhook of `run_env.alerts` cannot be reached: it answers 503" in run.err, run.err
    assert TOKEN not in run.err and not listener.got


def test_restarts_are_gathered_and_the_end_is_told_at_once(listener, millrace, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "out.jsonl").mkdir()
    # A sink that cannot write ends each run; the points kill them before.
    restart = "restart: {type: fixedDelayRestart, attempts: 3, delay: 10ms}"
    run = millrace(write(tmp_path, webhook(listener), restart), env={"MILLRACE_POINT": "slot-linked:1:kill"})
    assert run.code == 128 + 9, run.err
    events = [(e["event"], e["count"]) for _, _, body in listener.got for e in body["events"]]
    kinds = [e[0] for e in events]
    assert kinds[0] == "restarting" and kinds[-1] == "job_failed" and kinds.count("restarting") == 3, events
    assert len(listener.got) <= 3, "what follows within the minute comes in one"


def test_mail(mail_server, millrace, tmp_path):
    mail = f'mail: {{host: 127.0.0.1, port: {mail_server.port}, tls: none, from: "Millrace <millrace@example.com>", to: [a@example.com, b@example.com]}}'
    run = millrace(write(tmp_path, mail, rows=["x"] * 20))
    assert run.code == 6, run.err
    (m,) = mails(mail_server)
    assert m["subject"] == "millrace watched: halted by guard" and m["from"] == "Millrace <millrace@example.com>"
    assert "a@example.com" in m["to"] and "b@example.com" in m["to"] and "halted by guard `bad`" in m.get_content()
