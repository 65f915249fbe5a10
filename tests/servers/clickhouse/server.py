"""The ClickHouse HTTP interface over chDB, which is the server's engine as a Python package: server.py DATA_DIR PORT.

One engine, one query at a time. Of the query string it takes query, database, default_format, decompress and param_*; session, user
and role names are ignored; any other name is a setting, set for that query alone.
"""
import http.server
import re
import struct
import sys
import threading
import uuid
from urllib.parse import parse_qsl, urlsplit

import lz4.block
import lz4.frame
from chdb.session import Session
from clickhouse_cityhash.cityhash import CityHash128

OWN = {"query", "database", "default_format", "decompress", "query_id"}
IGNORED = {"session_id", "session_timeout", "user", "password", "role", "quota_key", "wait_end_of_query"}
NUMBER = re.compile(r"-?\d+(\.\d+)?")
#: HTTP status of the server's error codes; 500 for all others.
STATUS = {"60": 404, "81": 404, "46": 404, "62": 400, "47": 400, "516": 403, "497": 403}


def native_blocks(data):
    """Blocks of ClickHouse's own compression, checksums checked, unpacked and joined."""
    at, out = 0, []
    while at < len(data):
        method, size, raw = struct.unpack_from("<BII", data, at + 16)
        block = data[at + 16:at + 16 + size]
        digest = CityHash128(block)
        if struct.pack("<QQ", digest >> 64, digest & (1 << 64) - 1) != data[at:at + 16]:
            raise ValueError("Code: 40. DB::Exception: Checksum doesn't match: corrupted data. (CHECKSUM_DOESNT_MATCH)")
        if method == 0x82:
            out.append(lz4.block.decompress(block[9:], uncompressed_size=raw))
        elif method == 0x02:
            out.append(block[9:])
        else:
            raise ValueError(f"Code: 432. DB::Exception: Unknown codec family code: {method}. (UNKNOWN_CODEC)")
        at += 16 + size
    return b"".join(out)


class Engine:
    def __init__(self, path):
        self.session, self.lock = Session(path), threading.Lock()

    def run(self, sql, body, fields):
        settings = {name: value for name, value in fields.items() if name not in OWN | IGNORED and not name.startswith("param_")}
        params = {name[6:]: value for name, value in fields.items() if name.startswith("param_")}
        with self.lock:
            self.session.query("USE " + quoted(fields.get("database") or "default"))
            try:
                for name, value in settings.items():
                    self.session.query(f"SET {quoted(name)} = " + (value if NUMBER.fullmatch(value) else literal(value)))
                # Text formats only. The engine's own streaming insert takes any, but keeps it to itself when rows violate a constraint.
                query = sql + b"\n" + body if body else sql
                result = self.session.query(query, fields.get("default_format", "TabSeparated"), params=params or None)
                return result.bytes() or b""
            finally:
                for name in settings:
                    self.session.query(f"SET {quoted(name)} = DEFAULT")


def quoted(name):
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(value):
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def body(self):
        """The request's body; a connection that ends within it raises, so that half an insert is none."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.whole(int(self.headers.get("Content-Length") or 0))
        out = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            out.append(self.whole(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(out)

    def whole(self, size):
        data = self.rfile.read(size)
        if len(data) < size:
            raise ConnectionError("the body ends early")
        return data

    def answer(self, status, data, headers=()):
        self.send_response(status)
        for name, value in [("Content-Length", str(len(data))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self):
        url = urlsplit(self.path)
        fields = dict(parse_qsl(url.query, keep_blank_values=True))
        if url.path == "/ping" or (not fields and self.command == "GET"):
            return self.answer(200, b"Ok.\n")
        query_id = ("X-ClickHouse-Query-Id", fields.get("query_id") or str(uuid.uuid4()))
        try:
            body = self.body()
            if fields.get("decompress") == "1":
                body = native_blocks(body)
            sql = fields.get("query", "").encode()
            sql, body = (sql, body) if sql.strip() else (body, b"")
            data, headers = engine.run(sql, body, fields), [query_id]
            if "lz4" in self.headers.get("Accept-Encoding", "") and data:
                data = lz4.frame.compress(data)
                headers.append(("Content-Encoding", "lz4"))
            self.answer(200, data, headers)
        except ConnectionError:
            self.close_connection = True
        except Exception as error:
            text = str(error)
            code = re.search(r"Code: (\d+)", text)
            code = code[1] if code else "1002"
            text = text[text.find("Code: "):] if "Code: " in text else f"Code: 1002. DB::Exception: {text}"
            self.answer(STATUS.get(code, 500), text.encode() + b"\n", [query_id, ("X-ClickHouse-Exception-Code", code)])

    do_GET = do_POST

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    engine = Engine(sys.argv[1])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler)
    server.daemon_threads = True
    server.serve_forever()
