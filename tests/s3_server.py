"""S3 on loopback: moto's server, which is real enough for deltalake, pyarrow and boto, and fails on demand."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
SECRETS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
SLOW_SECONDS = 0.3


class S3:
    """A running server with one bucket, `bucket`.

    Each request that matches (by default a GET of a .parquet object) uses up one of `faults`: `slow` waits, `503` says
    SlowDown, `reset` drops the connection, `truncated` ends the body half-way. `gets` lists the keys of such requests.
    """

    def __init__(self, method: str = "GET", suffix: str = ".parquet") -> None:
        self.faults: list[str] = []
        self.gets: list[str] = []
        self.lock = threading.Lock()
        self._method, self._suffix = method, suffix
        self._app: App = DomainDispatcherApplication(create_backend_app)  # type: ignore[assignment]
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=SECRETS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=SECRETS["AWS_SECRET_ACCESS_KEY"],
            region_name=SECRETS["AWS_REGION"],
        )
        self.client.create_bucket(Bucket="bucket")

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def options(self) -> dict[str, str]:
        """Storage options for a client, with deltalake's names."""
        return {**SECRETS, "AWS_ENDPOINT_URL": self.url, "AWS_ALLOW_HTTP": "true"}

    def upload(self, folder: Path, prefix: str) -> None:
        """Put every file below `folder` into the bucket."""
        for path in folder.rglob("*"):
            if path.is_file():
                key = f"{prefix}/{path.relative_to(folder).as_posix()}"
                self.client.put_object(Bucket="bucket", Key=key, Body=path.read_bytes())

    def close(self) -> None:
        """Stop the server and delete the bucket."""
        for item in self.client.list_objects_v2(Bucket="bucket").get("Contents", []):
            self.client.delete_object(Bucket="bucket", Key=item["Key"])
        self.client.delete_bucket(Bucket="bucket")
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        fault = self._next_fault(environ)
        if fault == "slow":
            time.sleep(SLOW_SECONDS)
        elif fault == "503":
            body = b"<Error><Code>SlowDown</Code></Error>"
            start("503 Slow Down", [("Content-Length", str(len(body))), ("Content-Type", "application/xml")])
            return [body]
        elif fault == "reset":
            return _drop(environ)
        if fault == "truncated":
            return self._half(environ, start)
        return self._app(environ, start)

    def _next_fault(self, environ: dict[str, Any]) -> str:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] != self._method or not path.endswith(self._suffix):
            return ""
        with self.lock:
            self.gets.append(path.removeprefix("/bucket/"))
            return self.faults.pop(0) if self.faults else ""

    def _half(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
        body = b"".join(self._app(environ, start))
        yield body[: len(body) // 2]
        yield from _drop(environ)


def _drop(environ: dict[str, Any]) -> Iterable[bytes]:
    """Reset the connection."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    raise ConnectionError("dropped on purpose")


@contextmanager
def serve(method: str = "GET", suffix: str = ".parquet") -> Iterator[S3]:
    """A running server. `method` and `suffix` say which requests get its faults."""
    server = S3(method, suffix)
    try:
        yield server
    finally:
        server.close()
