"""With the jars in spark.jars from the start: the function catalog in plain SQL, and tasks that are retried."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def found(bridge_jar, acme_jar, tmp_path_factory):
    script = Path(__file__).with_name("cold_session.py")
    folder = tmp_path_factory.mktemp("cold")
    command = [sys.executable, script, bridge_jar, acme_jar, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_plain_sql_calls_functions_through_a_catalog(found):
    assert found["best"] == "b c"
    assert found["picked"] == 50
    assert found["overloads"] == ["int", "string", "a-b"]
    assert found["registered"] == 2


def test_calls_through_the_catalog_are_in_generated_code(found):
    assert found["codegen"]
    assert "applyfunctionexpression" not in found["plan"].lower()
    assert "pick(" in found["plan"]


def test_a_catalog_can_let_exceptions_be_absent_and_counts_them(found):
    assert found["absent"] == 50
    assert found["failures"] == {"failing": 50}


def test_wrong_calls_through_a_catalog_say_what_there_is(found):
    assert "nothing" in found["unknown"]
    assert (
        "pick(int): no function takes these arguments; found pick(altText string, fallBack string)" in found["mismatch"]
    )


def test_a_catalog_lists_its_functions(found):
    assert {"fn.calls.pick", "fn.calls.join"} <= {name.removeprefix("spark_catalog.") for name in found["listed"]}


def test_tasks_that_are_retried_count_once(found):
    assert found["rows"] == 100
    assert found["failed"] == 4
    (absence,) = found["absences"]
    assert (absence["column"], absence["function"]) == ("caption", "pick")
    assert (absence["values"], absence["data"], absence["algorithm"], absence["failure"]) == (50, 25, 25, 0)
    assert len(absence["examples"]["data"]) == len(absence["examples"]["algorithm"]) == 10
    assert {int(key) % 4 for key in absence["examples"]["data"]} == {0}
