"""Every recipe and command in docs/operations.md works. test_metastore.py runs the one with a metastore."""

import base64
import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake

from headrace.dataset.build import build
from headrace.jobs import cli
from headrace.recipe import Recipe
from tests.dataset.conftest import SCHEMA, row
from tests.object_store import object_store

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
TEXT = DOCS.read_text(encoding="utf-8")
RECIPES = {
    yaml.safe_load(text)["dataset"]["output"]["path"]: text
    for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
}
COMMANDS = re.findall(r"^\$ headrace (.*?) +# (\d)(?:: (.*))?$", TEXT, re.MULTILINE)
ELSEWHERE = {"datasets/gallery"}


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos of two days, as a Delta table and as JSON lines, in the folder that commands run in."""
    monkeypatch.chdir(tmp_path)
    rows = [{**row(i), "ds": f"2026-11-2{2 + i % 2}"} for i in range(4)]
    table = pa.Table.from_pylist(rows, SCHEMA.append(pa.field("ds", pa.string())))
    write_deltalake("lake/photos", table, partition_by=["ds"])
    lines = [{**r, "image": base64.b64encode(r["image"]).decode(), "conditions": None} for r in rows]
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "part-0.json").write_text("\n".join(json.dumps(line) for line in lines))
    return tmp_path


def test_all_are_known() -> None:
    assert set(RECIPES) == {"datasets/gallery", "datasets/daily", "datasets/lines", "s3://lake/datasets/photos"}
    assert len(COMMANDS) == TEXT.count("$ headrace") > 0


@pytest.mark.parametrize("output", sorted(set(RECIPES) - ELSEWHERE))
def test_recipes(spark, lake: Path, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.model_validate(yaml.safe_load(RECIPES[output])).dataset
    assert recipe is not None
    recipe = recipe.model_copy(
        update={"source": recipe.source.model_copy(update={"path": str(lake / str(recipe.source.path))})}
    )
    with object_store(lake / "s3") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
            monkeypatch.setitem(spark.sparkContext.environment, name, value)
        partition = ("ds", "2026-11-22") if recipe.output.partition else None
        assert build(spark, recipe, partition).rows == (4 if partition else 8)
        assert DeltaTable(output).to_pyarrow_table().num_rows == (4 if partition else 8)


def test_commands(spark, lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (lake / "daily.yaml").write_text(RECIPES["datasets/daily"])
    for command, status, says in COMMANDS:
        assert cli.main(shlex.split(command)) == int(status), command
        shown = capsys.readouterr()
        assert says in (shown.err if int(status) else shown.out), command
    assert DeltaTable("datasets/daily").version() == 2
    assert Path("datasets/daily/_headrace/report.html").is_file()
