"""Atomic writes: you find the old file or the new one, nothing in between and nothing beside them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace import files
from headrace.files import atomic, write_bytes, write_text

HALF_WRITTEN = """
import sys, time
from pathlib import Path
from headrace.files import atomic

with atomic(Path(sys.argv[1])) as hidden:
    hidden.write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def half_written(tmp_path: Path) -> subprocess.Popen[str]:
    """A process that has written half of `file.json` and now waits."""
    (tmp_path / "file.json").write_text("old")
    command = [sys.executable, "-c", HALF_WRITTEN, str(tmp_path / "file.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    return process


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_text(path, "a much longer old text, für lange Dateien")
    write_text(path, "new, größer")
    assert path.read_text(encoding="utf-8") == "new, größer"
    write_bytes(path, b"\0\1")
    assert path.read_bytes() == b"\0\1"
    assert names(tmp_path) == ["file.json"]


def test_readers_see_the_old_file_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_text(path, "old")
    with atomic(path) as hidden:
        hidden.write_text("new")
        assert hidden.parent == path.parent
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "interrupt"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file.json"
    write_text(path, "old")

    def write_half() -> None:
        with atomic(path) as hidden:
            hidden.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.json"]


def test_a_kill_leaves_the_old_file_and_the_next_write_cleans_up(
    tmp_path: Path, half_written: subprocess.Popen[str]
) -> None:
    path = tmp_path / "file.json"
    half_written.send_signal(signal.SIGKILL)
    half_written.wait()
    assert path.read_text() == "old"
    write_text(tmp_path / "other.json", "another file's leftovers are left alone")
    assert len(names(tmp_path)) == 3
    write_text(path, "new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file.json", "other.json"]


def test_a_write_does_not_disturb_another_process_that_still_writes(
    tmp_path: Path, half_written: subprocess.Popen[str]
) -> None:
    path = tmp_path / "file.json"
    write_text(path, "ours")
    assert len(names(tmp_path)) == 2
    half_written.send_signal(signal.SIGINT)  # its cleanup removes its own file
    half_written.wait()
    assert path.read_text() == "ours"
    assert names(tmp_path) == ["file.json"]


def test_many_processes_may_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    code = """
import sys
from pathlib import Path
from headrace.files import write_text
for turn in range(50):
    write_text(Path(sys.argv[1]), sys.argv[2] * 10_000)
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            text = path.read_text()
            assert text in ("a" * 10_000, "b" * 10_000)
        time.sleep(0.001)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert names(tmp_path) == ["file.json"]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "atomic", "")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")}
    assert len(modes) == 1


@pytest.mark.parametrize("durable", [True, False])
def test_the_file_reaches_the_disk_before_its_name_does_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    synced: list[tuple[str, bool]] = []
    path = tmp_path / "file.json"

    def sync(descriptor: int) -> None:
        synced.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")).name[:6], path.exists()))

    monkeypatch.setattr(files.os, "fsync", sync)
    with atomic(path, durable) as hidden:
        hidden.write_text("new")
    assert synced == ([(".file.", False), (tmp_path.name[:6], True)] if durable else [])


def test_a_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    with atomic(link) as hidden:
        hidden.write_text("new")
        hidden.chmod(0o600)
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_relative_path_outlives_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with atomic(Path("file")) as hidden:
        hidden.write_text("whole")
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert (tmp_path / "file").read_text() == "whole"
    assert names(tmp_path) == ["elsewhere", "file"]


def test_arrow_opens_what_hadoop_calls_s3a() -> None:
    assert files.arrow_uri("s3a://bucket/a://b") == files.arrow_uri("s3n://bucket/a://b") == "s3://bucket/a://b"
    for same in ("s3://bucket", "hdfs://host/s3a://b", "folder", "s3a:folder"):
        assert files.arrow_uri(same) == same
