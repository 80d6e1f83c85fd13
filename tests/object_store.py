"""A real S3 server (SeaweedFS) on loopback, in its own process."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pyarrow import fs

BUCKET = "lake"
# Beside this Python, or elsewhere on PATH if this is the Python of another version of Spark.
_WEED = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
STARTED_WITHIN_SECONDS = 60
PORTS = (
    *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "filer.port", "filer.port.grpc"),
    *("volume.port", "volume.port.grpc", "admin.port", "admin.port.grpc"),
)


def free_ports(count: int) -> list[int]:
    """Unused ports of 127.0.0.1."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def object_store(folder: Path) -> Iterator[dict[str, str]]:
    """Run the server with an empty bucket `lake`, with its data in `folder`. Yields the environment for its clients."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    environment = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }
    command = [
        *(_WEED or "weed", "mini", f"-dir={folder}", f"-bucket={BUCKET}"),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", "-webdav=false", "-admin.ui=false"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", *(f"-{name}={port}" for name, port in ports.items())),
    ]
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
        try:
            _wait(server, ports["s3.port"], log)
            yield environment
        finally:
            server.kill()
            server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until a client sees the bucket, which the server makes after it has started to answer."""
    files = fs.S3FileSystem(
        access_key="key", secret_key="secret", region="us-east-1", scheme="http", endpoint_override=f"127.0.0.1:{port}"
    )
    deadline = time.monotonic() + STARTED_WITHIN_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            if files.get_file_info(BUCKET).type == fs.FileType.Directory:
                return
        time.sleep(0.1)
    raise AssertionError(f"the S3 server did not start: {log.read_text()[-2000:]}")
