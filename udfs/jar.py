"""Compile the Java functions of `udfs/java` into `udfs/jars/headrace-udfs.jar`: `python -m headrace.udfs.jar`.

Compile your own the same way: `python -m headrace.udfs.jar --source DIRECTORY --output FILE.jar`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from headrace.errors import RecipeError
from headrace.files import atomic

SOURCE = Path(__file__).parent / "java"
JAR = Path(__file__).parent / "jars" / "headrace-udfs.jar"
RELEASE = 17
PROCESSOR = "headrace.docs.DocsProcessor"
SERVICE = "META-INF/services/javax.annotation.processing.Processor"
NEEDED_JARS = ("spark-*.jar", "scala-library*.jar", "jackson-*.jar", "json4s-*.jar", "kryo*.jar", "slf4j-api-*.jar")
NO_JDK = (
    "no JDK: javac is neither in JAVA_HOME nor on PATH, expected JDK 17 or newer; "
    "install one, say `apt-get install openjdk-17-jdk-headless`"
)


def path() -> Path:
    """The jar with this package's Java functions and the bridge that registers them.

    Raises RecipeError if it has not been built.
    """
    if not JAR.is_file():
        raise RecipeError(f"{JAR}: no such jar; build it with `python -m headrace.udfs.jar`")
    return JAR


def javac() -> Path:
    """The Java compiler, from JAVA_HOME or else PATH. Raises RecipeError if there is none or it is older than 17."""
    home = os.environ.get("JAVA_HOME")
    in_home = Path(home) / "bin" / "javac" if home else None
    on_path = shutil.which("javac")
    found = in_home if in_home and in_home.is_file() else Path(on_path) if on_path else None
    if found is None:
        raise RecipeError(NO_JDK)
    version = subprocess.run([found, "-version"], capture_output=True, text=True, check=False)
    number = re.search(r"javac (\d+)", version.stdout + version.stderr)
    if number is None or int(number.group(1)) < RELEASE:
        shown = (version.stdout + version.stderr).strip() or "no version"
        raise RecipeError(f"JDK: {found} says {shown!r}, expected {RELEASE} or newer")
    return found


def build(source: Path = SOURCE, output: Path = JAR) -> Path:
    """Compile every .java file under `source` into the jar `output`, and return its path.

    If the jar is newer than every source, this does nothing. The jar is replaced atomically. Raises RecipeError if
    there is no JDK or no source, or if the source does not compile.
    """
    sources = sorted(source.rglob("*.java"))
    if not sources:
        raise RecipeError(f"{source}: no .java file, expected the source of Java functions")
    if _is_fresh(output, source, sources):
        return output
    compiler = javac()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="headrace-javac-") as directory:
        classes = Path(directory) / "classes"
        own = [file for file in sources if file.name == PROCESSOR.rpartition(".")[2] + ".java"]
        if own:
            _compile(compiler, own, classes, _pyspark_jars(), ["-proc:none"])
        processors = str(classes) if own else str(path())
        classpath = _pyspark_jars() if own else os.pathsep.join([str(path()), _pyspark_jars()])
        docs = ["-processor", PROCESSOR, "-processorpath", processors]
        _compile(compiler, sources, classes, classpath, docs)
        if own:
            (classes / SERVICE).parent.mkdir(parents=True, exist_ok=True)
            (classes / SERVICE).write_text(PROCESSOR + "\n")
        _pack(classes, output)
    return output


def _is_fresh(output: Path, source: Path, sources: Sequence[Path]) -> bool:
    """Whether the jar is newer than every source and every folder: removing a file changes its folder."""
    if not output.is_file():
        return False
    built = output.stat().st_mtime_ns
    folders = [source, *(folder for folder in source.rglob("*") if folder.is_dir())]
    return all(entry.stat().st_mtime_ns < built for entry in [*sources, *folders])


def _pyspark_jars() -> str:
    """The class path to compile against: only the jars needed, since reading all of pyspark's takes seconds."""
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise RecipeError("pyspark: not installed, needed to compile Java functions; install headrace[spark]")
    jars = Path(spec.origin).parent / "jars"
    return os.pathsep.join(str(jar) for name in NEEDED_JARS for jar in sorted(jars.glob(name)))


def _compile(compiler: Path, sources: Sequence[Path], classes: Path, classpath: str, options: Sequence[str]) -> None:
    classes.mkdir(parents=True, exist_ok=True)
    files = classes.parent / "sources"
    files.write_text("".join(f'"{str(file).replace(os.sep, "/")}"\n' for file in sources), encoding="utf-8")
    command = [str(compiler), "--release", str(RELEASE), "-encoding", "UTF-8", "-parameters", "-nowarn", "-Xlint:none"]
    command += ["-classpath", classpath, "-d", str(classes), *options, f"@{files}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if ": error:" in line or "error:" in line]
        shown = "; ".join(lines[:3]) or (done.stdout + done.stderr).strip()
        raise RecipeError(f"javac: the source does not compile: {shown}")


def _pack(classes: Path, output: Path) -> None:
    """Write the jar, whole or not at all, with its files in order and without times."""
    with atomic(output) as hidden, zipfile.ZipFile(hidden, "w", zipfile.ZIP_DEFLATED) as jar:
        jar.writestr(zipfile.ZipInfo("META-INF/MANIFEST.MF"), "Manifest-Version: 1.0\n\n")
        for file in sorted(entry for entry in classes.rglob("*") if entry.is_file()):
            info = zipfile.ZipInfo(file.relative_to(classes).as_posix())
            info.compress_type = zipfile.ZIP_DEFLATED
            jar.writestr(info, file.read_bytes())


def main(argv: Sequence[str] | None = None) -> int:
    """Build the jar and print its path. An error is one line, with exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m headrace.udfs.jar", description=__doc__)
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder of Java sources")
    parser.add_argument("--output", type=Path, default=JAR, help="the jar to make")
    arguments = parser.parse_args(argv)
    try:
        print(build(arguments.source, arguments.output))
    except RecipeError as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
