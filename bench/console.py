#!/usr/bin/env python3
"""The console with many tasks: how long the list takes at the server (wanted: under 200 ms), as a page and by the API, and how much memory the
console takes (wanted: under 150 MiB), while some of the tasks run.

console.py [--tasks 200] [--running 20] [--requests 100]
"""
import argparse
import http.client
import json
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time
import urllib.parse

CACHE = pathlib.Path(os.environ.get("MILLRACE_CACHE", pathlib.Path.home() / ".cache/millrace"))
MILLRACE = os.environ.get("MILLRACE", str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target")) / "release/millrace"))
JOB = """name: job-{n}
run_env:
  memory: 64MiB
  checkpoint: {{interval: 1s, dir: state}}
streams:
  events:
    config:
      source: {{type: Generator, config: {{profile: ad_exposures, rate: 100}}}}
      operates:
        - type: StringToMap
          config: {{format: json, fields: {{uid: string, price: "decimal(18,2)"}}}}
transforms:
  - {{type: Filter, name: dear, config: {{where: price > {n}}}}}
sink:
  - {{type: File, name: out, config: {{path: out.jsonl}}}}
"""
PASSWORD = "correct horse battery"


class Console:
    def __init__(self, folder):
        self.process = subprocess.Popen([MILLRACE, "serve", "--listen", "127.0.0.1:0", "--data", folder], stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if m := re.search("with the password ([^,]+),", line):
                first = m[1]
            if m := re.match("console: http://(.*)", line):
                self.host = m[1]
                break
        self.http, self.cookie, self.token = http.client.HTTPConnection(self.host), "", None
        _, head, _ = self.form("/login", name="admin", password=first)
        self.cookie = head["set-cookie"].split(";")[0]
        self.csrf = re.search('name="_csrf" value="([^"]+)"', self.ask("GET", "/account")[2])[1]
        self.form("/account/password", old=first, new=PASSWORD)
        page = self.form("/account/tokens", name="bench", role="admin", days="1")[2]
        self.token = re.search('id="secret">([^<]+)<', page)[1]

    def ask(self, method, path, body=None, **headers):
        try:
            self.http.request(method, path, body, {"cookie": self.cookie, **headers})
            answer = self.http.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError):
            # The console closes connections that were silent for some seconds.
            self.http.close()
            self.http.request(method, path, body, {"cookie": self.cookie, **headers})
            answer = self.http.getresponse()
        return answer.status, answer.headers, answer.read().decode()

    def form(self, path, **fields):
        if self.cookie:
            fields["_csrf"] = self.csrf
        kind = {"origin": f"http://{self.host}", "content-type": "application/x-www-form-urlencoded"}
        return self.ask("POST", path, urllib.parse.urlencode(fields), **kind)

    def api(self, method, path, body=None):
        status, _, text = self.ask(method, "/api/v1" + path, json.dumps(body) if body is not None else None, authorization=f"Bearer {self.token}")
        assert status < 300, f"{method} {path}: {status} {text}"
        return json.loads(text)

    def memory(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return {name: int(re.search(rf"{name}:\s+(\d+)", text)[1]) / 1024 for name in ("VmRSS", "VmHWM")}


def timed(console, path, requests, **headers):
    """Milliseconds of each request, and the size of the answer."""
    took, size = [], 0
    for _ in range(requests):
        begun = time.monotonic()
        status, _, text = console.ask("GET", path, **headers)
        took.append((time.monotonic() - begun) * 1e3)
        assert status == 200
        size = len(text)
    return took, size


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--tasks", type=int, default=200)
    p.add_argument("--running", type=int, default=20)
    p.add_argument("--requests", type=int, default=100)
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="millrace-console-") as folder:
        console = Console(folder)
        names = [f"job-{n}" for n in range(args.tasks)]
        try:
            for n, name in enumerate(names):
                console.api("PUT", f"/tasks/{name}", {"settings": {"config": JOB.format(n=n % 7), "tags": [f"tag{n % 5}"]}})
            for name in names[:args.running]:
                console.api("POST", f"/tasks/{name}/start", {})
            while sum(t["state"] == "running" for t in console.api("GET", "/tasks")) < args.running:
                time.sleep(0.2)
            # Some minutes of figures would be kept; half a minute shows what a look costs.
            time.sleep(30)
            for what, path, headers in [("page", "/tasks", {}), ("API", "/api/v1/tasks", {"authorization": f"Bearer {console.token}"})]:
                took, size = timed(console, path, args.requests, **headers)
                print(f"{what}: median {statistics.median(took):.1f} ms, slowest of {args.requests} {max(took):.1f} ms, {size / 1024:.0f} KiB "
                      f"({args.tasks} tasks, {args.running} running)")
            memory = console.memory()
            print(f"memory of the console: {memory['VmRSS']:.0f} MiB resident, {memory['VmHWM']:.0f} MiB at most")
        finally:
            for name in names[:args.running]:
                console.ask("POST", f"/api/v1/tasks/{name}/kill", "{}", authorization=f"Bearer {console.token}")
            console.process.terminate()
            console.process.wait()
            time.sleep(1)


if __name__ == "__main__":
    main()
