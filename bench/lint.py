#!/usr/bin/env python3
"""How fast the tools for writing topologies are: lint of 1,000 different files of 200 lines (wanted: under a second), and completion inside a
half-written file of 200 lines by the language server (wanted: under 20 ms).

lint.py [--files 1000] [--rounds 5]
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

CACHE = pathlib.Path(os.environ.get("MILLRACE_CACHE", pathlib.Path.home() / ".cache/millrace"))
MILLRACE = os.environ.get("MILLRACE", str(pathlib.Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target")) / "release/millrace"))


def topology(n):
    """A right topology of 200 lines, different for each n."""
    out = [f"name: job-{n}", "run_env:", "  time_characteristic: EventTime", f"  parallelism: {n % 8 + 1}", "streams:"]
    for s in range(4):
        out += f"""\
  stream_{n}_{s}:
    config:
      source:
        type: Kafka
        config:
          brokers: broker-1:9092,broker-2:9092
          topics: [topic-{n}-{s}]
          group: group-{n}
      operates:
        - type: StringToMap
          config:
            format: json
            fields:
              uid: string
              mid: string
              v_{n}: bigint
              price: decimal(18,2)
              ts: bigint
        - type: Filter
          config:
            where: v_{n} > {s} AND price < {n}.5
        - type: Map
          config:
            set:
              cents: CAST(price * 100 AS bigint) + {n}
              day: substr(uid, 1, 4) || '-' || lower(mid)
      watermark:
        field: ts
        format: epoch_ms
        max_out_of_orderness: {s + 1}s""".split("\n")
    out += ["transforms:", "  - type: Union", "    name: all", "    input:"] + [f"      - stream_{n}_{s}" for s in range(4)]
    for t, key in enumerate(["uid", "mid", "day"]):
        out += f"""\
  - type: KeyBy
    name: by_{t}
    input: all
    config:
      keys: [{key}]
  - type: CountWindowWithTimeOut
    name: window_{t}
    input: by_{t}
    config:
      count: {100 + n}
      timeout: {5 + t}s
      aggregates:
        n: count(*)
        total: sum(cents + {t})
        most: max(v_{n})""".split("\n")
    out += ["sink:"]
    for t in range(3):
        out += f"""\
  - type: Kafka
    name: out_{t}
    input: window_{t}
    config:
      brokers: broker-1:9092,broker-2:9092
      topic: result-{n}-{t}
      format: json""".split("\n")
    return "\n".join(out) + "\n"


def lint(folder, files, rounds):
    for n in range(files):
        (folder / f"job-{n:04}.yaml").write_text(topology(n))
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run([MILLRACE, "lint", "--format", "concise", str(folder)], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - start)
    print(f"lint of {files} files of {len(topology(0).splitlines())} lines: {statistics.median(took):.3f} s (best {min(took):.3f})")


class Server:
    def __init__(self):
        self.process = subprocess.Popen([MILLRACE, "lsp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.next = 0

    def send(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def ask(self, method, params):
        self.next += 1
        self.send({"id": self.next, "method": method, "params": params})
        while True:
            length = 0
            while line := self.process.stdout.readline().strip():
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            answer = json.loads(self.process.stdout.read(length))
            if answer.get("id") == self.next:
                return answer["result"]


def completion(rounds):
    lines = topology(1).splitlines()
    # A line of the topology, and what stands of it so far.
    places = {
        "a key of a config": ("          group: group-1", "          gro"),
        "a type": ("        - type: Filter", "        - type: Fil"),
        "a field in an expression": ("            where: v_1 > 2 AND price < 1.5", "            where: v_1 > 2 AND pri"),
        "an input": ("    input: window_2", "    input: win"),
        "a brace that is open": ("    name: out_1", "    config: {top"),
    }
    server = Server()
    server.ask("initialize", {"capabilities": {}})
    for what, (old, written) in places.items():
        line = lines.index(old)
        text = "\n".join(lines[:line] + [written] + lines[line + 1 :]) + "\n"
        uri = "file:///job.yaml"
        server.send({"method": "textDocument/didOpen", "params": {"textDocument": {"uri": uri, "languageId": "yaml", "version": 1, "text": text}}})
        took, found = [], 0
        for _ in range(rounds * 10):
            start = time.perf_counter()
            answer = server.ask("textDocument/completion", {"textDocument": {"uri": uri}, "position": {"line": line, "character": len(written)}})
            took.append(time.perf_counter() - start)
            found = len(answer["items"])
        print(f"completion of {what}: {statistics.median(took) * 1000:.1f} ms (worst {max(took) * 1000:.1f}), {found} proposals")
    server.ask("shutdown", None)
    server.send({"method": "exit"})
    server.process.wait()


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--files", type=int, default=1000)
    args.add_argument("--rounds", type=int, default=5)
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lint(pathlib.Path(folder), args.files, args.rounds)
    completion(args.rounds)


if __name__ == "__main__":
    main()
