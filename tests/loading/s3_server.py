"""A server on loopback that speaks as much of S3 as reading needs, and fails on demand."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Server(ThreadingHTTPServer):
    """Serves the folders under `root` as buckets. `faults` are used up one a GET of a shard."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.faults: list[str] = []
        self.gets: list[str] = []
        self.lock = threading.Lock()

    @property
    def options(self) -> dict[str, str]:
        """Storage options for a client."""
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_port}",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that were cut off are part of the game."""


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of objects, ListObjectsV2."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._object(body=False)

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query)
        else:
            self._object(body=True)

    def _object(self, body: bool) -> None:
        name = unquote(urlsplit(self.path).path).lstrip("/")
        path = self.server.root / name
        if not path.is_file():
            return self._send(404, b"<Error><Code>NoSuchKey</Code></Error>" if body else b"", 0)
        data = path.read_bytes()
        status, extra = 200, {}
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start = int(first) if first else len(data) - int(last)
            end = min(len(data), int(last) + 1 if first and last else len(data))
            extra = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
            status, data = 206, data[start:end]
        if not body:
            return self._send(200, b"", len(path.read_bytes()))
        fault = ""
        if path.suffix == ".parquet":
            with self.server.lock:
                self.server.gets.append(name)
                fault = self.server.faults.pop(0) if self.server.faults else ""
        return self._faulty(fault, status, data, extra)

    def _faulty(self, fault: str, status: int, data: bytes, extra: dict[str, str]) -> None:
        if fault == "503":
            return self._send(503, b"<Error><Code>SlowDown</Code></Error>", 0)
        if fault == "slow":
            time.sleep(0.3)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return self.connection.close()
        self._send(status, data[: len(data) // 2] if fault == "truncated" else data, len(data), extra)
        if fault == "truncated":
            self.close_connection = True
        return None

    def _list(self, query: dict[str, list[str]]) -> None:
        bucket = unquote(urlsplit(self.path).path).strip("/")
        prefix = query.get("prefix", [""])[0]
        delimiter = query.get("delimiter", [""])[0]
        after = query.get("start-after", [""])[0]
        files, folders = [], set()
        for path in sorted((self.server.root / bucket).rglob("*")):
            key = path.relative_to(self.server.root / bucket).as_posix()
            if path.is_dir() or not key.startswith(prefix) or key <= after:
                continue
            head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            if found:
                folders.add(prefix + head + delimiter)
            else:
                files.append((key, path.stat().st_size))
        keys = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>x</ETag>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for key, size in files
        )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>" for key in sorted(folders))
        body = (
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
            f"<KeyCount>{len(files) + len(folders)}</KeyCount>{keys}{common}</ListBucketResult>"
        )
        self._send(200, body.encode(), 0)

    def _send(self, status: int, data: bytes, length: int, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (extra or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length or len(data)))
        self.send_header("Last-Modified", formatdate(0, usegmt=True))
        self.send_header("ETag", '"x"')
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serve(root: Path) -> Iterator[Server]:
    """A running server."""
    server = Server(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
