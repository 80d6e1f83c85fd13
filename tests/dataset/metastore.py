"""A real Hive metastore: Hive's own server, from the jars that pyspark ships, over Derby."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

import pyspark

from tests.object_store import free_ports

STARTED_WITHIN_SECONDS = 120


@contextmanager
def metastore(folder: Path) -> Iterator[str]:
    """Run the server, with its state in `folder`. Yields its URI."""
    settings = {
        "javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={folder}/database;create=true",
        "datanucleus.schema.autoCreateAll": "true",
        "hive.metastore.schema.verification": "false",
        "hive.metastore.warehouse.dir": f"{folder}/warehouse",
        "hive.async.log.enabled": "false",
    }
    lines = (
        f"<property><name>{name}</name><value>{escape(value)}</value></property>" for name, value in settings.items()
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hive-site.xml").write_text(f"<configuration>{''.join(lines)}</configuration>")
    (port,) = free_ports(1)
    jars = Path(pyspark.__file__).parent / "jars"
    java = str(Path(os.environ["JAVA_HOME"]) / "bin" / "java") if "JAVA_HOME" in os.environ else shutil.which("java")
    assert java is not None
    command = [
        *(java, f"-Dderby.stream.error.file={folder}/derby.log", f"-Djava.io.tmpdir={folder}"),
        *("-cp", f"{folder}:{jars}/*", "org.apache.hadoop.hive.metastore.HiveMetaStore", "-p", str(port)),
    ]
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        try:
            _wait(server, port, log)
            yield f"thrift://127.0.0.1:{port}"
        finally:
            server.kill()
            server.wait()


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait until the server listens."""
    wanted = f":{port:04X} "
    deadline = time.monotonic() + STARTED_WITHIN_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        sockets = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
        if any(wanted in line and " 0A " in line for line in sockets):
            return
        time.sleep(0.2)
    raise AssertionError(f"the metastore did not start: {log.read_text()[-2000:]}")
