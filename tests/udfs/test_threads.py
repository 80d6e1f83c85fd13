"""Python's and the JVM's threads in one table."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from headrace import udfs
from headrace.jobs import threads as job
from headrace.udfs.thread_table import table


@pytest.fixture
def waiting():
    """A Python thread that waits, by name."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait, name="waits-for-tests", daemon=True)
    thread.start()
    yield thread
    done.set()
    thread.join()


def test_both_sides_are_listed(spark, bridge_jar, waiting):
    listed = udfs.threads(spark)
    mine = [thread for thread in listed if thread.name == "waits-for-tests"]
    assert [(thread.process, thread.daemon, thread.id) for thread in mine] == [("python", True, waiting.native_id)]
    assert "wait (threading.py:" in mine[0].frame
    driver = {thread.name: thread for thread in listed if thread.process == "driver"}
    scheduler = driver["dag-scheduler-event-loop"]
    assert (scheduler.state, scheduler.daemon) == ("WAITING", True)
    assert "AbstractQueuedSynchronizer" in scheduler.awaited
    assert scheduler.cpu_seconds > 0
    assert scheduler.frame
    assert not any(thread.deadlocked for thread in listed)


def test_the_native_threads_of_libraries_are_listed(waiting):
    listed = {thread.id for thread in udfs.threads()}
    assert {int(name) for name in os.listdir("/proc/self/task")} == listed


def test_deadlocked_threads_come_first(spark, acme_jar):
    udfs.register(spark, "acme.Deadlock", jar=acme_jar, prefix="d_")
    assert spark.sql("SELECT d_lock(1)").first()[0] == 2
    first, second, *rest = udfs.threads(spark)
    assert {first.name, second.name} == {"deadlock-a", "deadlock-b"}
    assert first.deadlocked
    assert second.deadlocked
    assert not any(thread.deadlocked for thread in rest)
    assert "java.lang.Object" in first.held
    assert f"held by {second.name}" in first.awaited
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(table([first, second]))
    assert console.export_text().count("DEADLOCKED") == 2


def test_brackets_in_names_are_no_markup():
    thread = udfs.Thread("driver", "pool-[a]-1", 7, "WAITING", True, None, "[I@1 [/b]", "", "f ([x].py:3)", False)
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(table([thread]))
    shown = console.export_text()
    assert all(text in shown for text in (thread.name, thread.held, thread.frame))


def test_local_mode_has_no_executors_beside_the_driver(spark, bridge_jar):
    assert {thread.process for thread in udfs.threads(spark, executors=True)} == {"python", "driver"}


def test_the_job_prints_json(spark, bridge_jar, capsys):
    assert job.main(["--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert {thread["process"] for thread in listing["threads"]} == {"python", "driver"}
    assert set(listing["threads"][0]) == {field.name for field in dataclasses.fields(udfs.Thread)}


def test_without_a_session_the_job_lists_python_and_says_so():
    narrow = os.environ | {"COLUMNS": "40"}
    done = subprocess.run(
        [sys.executable, "-m", "headrace.jobs.threads"], capture_output=True, text=True, env=narrow, timeout=60
    )
    assert done.returncode == 0
    title, *lines = done.stdout.splitlines()
    assert title.endswith("; no Spark session in this process, so only its Python threads")
    (main,) = (line for line in lines if "MainThread" in line)
    assert "_python_threads (thread_table.py:" in main, "one line for each thread if stdout is not a terminal"
    assert "driver" not in done.stdout
    bad = subprocess.run(
        [sys.executable, "-m", "headrace.jobs.threads", "--watch", "0"], capture_output=True, text=True, timeout=60
    )
    assert bad.returncode == 2
    assert bad.stderr == "headrace: argument --watch: found '0', expected 0.1 to 3600 seconds\n"
