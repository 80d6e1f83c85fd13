"""The worked example of docs/udfs.md works."""

import re
from pathlib import Path

import headrace.udfs.jar

PAGE = Path(__file__).parents[2] / "docs" / "udfs.md"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_worked_example(spark, bridge_jar, tmp_path, monkeypatch):
    (java,) = blocks("java")
    source = tmp_path / "acme-source" / "acme" / "Alt.java"
    source.parent.mkdir(parents=True)
    source.write_text(java)
    monkeypatch.chdir(tmp_path)
    assert headrace.udfs.jar.main(["--source", "acme-source", "--output", "alt.jar"]) == 0
    scope = {"spark": spark}
    python = blocks("python")
    assert len(python) == 2
    for block in python:
        exec(compile(block, str(PAGE), "exec"), scope)


def test_the_page_lists_every_function_of_the_library(spark, bridge_jar):
    page = PAGE.read_text()
    classes = re.findall(r"^\| `(headrace\.\w+)` \|", page, re.MULTILINE)
    assert classes == [f"headrace.{name}" for name in ("Captions", "Text", "Language", "Images", "Urls", "Parse")]
    for name in classes:
        functions = vars(headrace.udfs.register(spark, name))
        missing = [function for function in functions if not function.startswith("_") and f"`{function}" not in page]
        assert not missing, name
        assert all(
            getattr(functions[function], "__doc__", "") for function in functions if not function.startswith("_")
        )
