"""The job `build` and the demo's source, on a few emoji."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable

import headrace.udfs.jar
from headrace.jobs import build, emoji
from tests.dataset.conftest import SCHEMA
from tests.dataset.conftest import row as photo

ROOT = Path(__file__).parents[2]
# A skin tone, a regional indicator, a flag, and a name without any word of the query.
NOT_IN_THE_QUERY = {"1f44d-1f3fb", "1f1e6", "1f1e6-1f1e8", "1f697"}
# Includes one without a name in any language, and a heart listed with and without U+FE0F.
IDS = [*sorted(NOT_IN_THE_QUERY), "e50a", "2764", "1f600", "1f34f", "1f436", "2b50"]


@pytest.fixture(scope="module")
def table(spark) -> str:
    emoji.make_table(spark, "emoji_few", IDS)
    return "emoji_few"


def build_emoji(table: str, output: Path, *overrides: str) -> int:
    recipe = str(ROOT / "recipes" / "emoji.yaml")
    return build.main([recipe, f"dataset.source.table={table}", f"dataset.output.path={output}", *overrides])


def test_the_source_keeps_what_is_missing_missing(spark, table: str) -> None:
    rows = {row["image_id"]: row for row in spark.table(table).collect()}
    assert sorted(rows) == sorted(IDS)
    assert rows["1f1e6"]["captions"] is None
    grinning = rows["1f600"]["captions"]
    assert grinning["en"] == [":grinning_face:"]
    assert len(grinning) >= 14
    assert "alias" in grinning
    assert "alias" not in rows["2b50"]["captions"]
    assert rows["2764"]["captions"]["en"] == [":red_heart:"]
    assert all(names and all(names) for row in rows.values() for names in (row["captions"] or {}).values())


def test_conditions_are_those_of_the_image(spark, table: str) -> None:
    for row in spark.table(table).collect():
        image = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_UNCHANGED)
        made = {c["kind"]: cv2.imdecode(np.frombuffer(c["image"], np.uint8), -1) for c in row["conditions"]}
        assert (made["silhouette"] == image[:, :, 3]).all()
        assert set(np.unique(made["edges"])) <= {0, 255}
        assert 0 < (made["edges"] == 255).mean() < 0.5
        assert made["edges"].shape == image.shape[:2] == (72, 72)


def test_a_source_that_is_there_is_left_alone(spark, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    emoji.make_table(spark, table, IDS)
    assert "exists already" in capsys.readouterr().out


def test_builds_the_demo(spark, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "emoji"
    assert build_emoji(table, output) == 0
    shown = capsys.readouterr().out
    assert "version 0" in shown
    assert "by reference" in shown
    rows = pq.ParquetDataset(DeltaTable(str(output)).file_uris()).read().to_pylist()
    assert {row["image_id"] for row in rows} == set(IDS) - NOT_IN_THE_QUERY
    hearts = {(row["language"], row["caption"], row["condition_kind"]) for row in rows if row["image_id"] == "2764"}
    assert {("en", "red heart", "silhouette"), ("en", "red heart", "edges")} <= hearts
    nameless = [row for row in rows if row["image_id"] == "e50a"]
    assert [(row["language"], row["caption"]) for row in nameless] == [(None, None)] * 2
    source = {row["image_id"]: row for row in spark.table(table).collect()}
    for row in rows:
        conditions = {c["kind"]: c["image"] for c in source[row["image_id"]]["conditions"]}
        assert row["image"] == source[row["image_id"]]["image"]
        assert row["condition"] == conditions[row["condition_kind"]]


WRONG = [
    (["dataset.on_bad_row=explode"], 2, "dataset.on_bad_row"),
    (["dataset.shufle.seed=1"], 2, "did you mean shuffle"),
    (["dataset.source.table=nothing_here"], 2, "nothing_here"),
    (["dataset.query=SELECT image FROM source WHERE image_id = ''"], 3, "no rows"),
    (["dataset.query=SELEC 1"], 2, "SELEC"),
    (["dataset.query=SELECT image, interval 1 day AS i FROM source"], 2, "column 'i' of type interval day"),
    (["dataset.shuffle.sample=[nope]"], 2, "dataset.shuffle.sample: found 'nope'"),
    (["dataset.output.partition=image"], 2, "dataset.output.partition: found 'image' of type binary"),
    (["dataset.jars=[nope.jar]"], 2, "dataset.jars: "),
    (["dataset.captions={min_characters: 9, max_characters: 3}"], 2, "max_characters of at least"),
    (["dataset.images={column: image, conditions: [edgs]}"], 2, "dataset.images.conditions: found 'edgs'"),
    (["dataset.images={column: image, min_side: 1000}"], 3, "left out: "),
    (["--dry-run=yes"], 2, "argument --dry-run: found 'yes'"),
    (["--vacuum", "--dry-run"], 2, "expected one of them"),
    (["--vacuum=-5"], 2, "argument --vacuum: found '-5', expected hours, 0 or more"),
    (["--vacuum=nan"], 2, "'nan'"),
    (["dataset.output.path=/proc/emoji"], 2, "/proc/emoji"),
]


@pytest.mark.parametrize(("overrides", "status", "named"), WRONG)
def test_errors_are_one_line_and_a_status(
    spark, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], status: int, named: str
) -> None:
    assert build_emoji(table, tmp_path / "out", *overrides) == status
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headrace:")]
    assert len(errors) == 1
    assert named in errors[0]
    assert not (tmp_path / "out" / "_delta_log").exists()


@pytest.fixture
def daily(spark, tmp_path: Path) -> Path:
    """A recipe over photos of two days, with a partition for each day."""
    for number, day in enumerate(("2026-11-21", "2026-11-22")):
        folder = tmp_path / "photos" / f"ds={day}"
        folder.mkdir(parents=True)
        rows = [photo(10 * number + i) for i in range(2)]
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "part-0.parquet")
    query = "SELECT id, image, ds, caption FROM source LATERAL VIEW explode(captions) c AS caption"
    output = {"path": str(tmp_path / "out"), "partition": "ds"}
    recipe = {"source": {"path": str(tmp_path / "photos")}, "query": query, "shuffle": {"key": "id"}, "output": output}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"dataset": recipe}))
    return tmp_path / "recipe.yaml"


def test_a_dry_run_says_all_and_writes_nothing(daily: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main([str(daily), "ds=2026-11-21", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "LATERAL VIEW explode(captions)" in shown
    assert "Generate explode(captions" in shown, "Spark's plan"
    conditioning = {
        line.split("│")[1].strip(): line.split("│")[2].strip() for line in shown.splitlines() if "│" in line
    }
    size = sum(len(photo(i)["image"]) for i in range(2))
    estimated = int(conditioning.pop("media bytes").replace(",", ""))
    assert size <= estimated < 3 * size, "by the footer, in which pages of so few bytes are mostly header"
    assert conditioning == {
        "media": "by reference",
        "rows in": "2",
        "rows with samples": "2",
        "shards, about": "1",
    }
    assert sorted(path.name for path in daily.parent.iterdir()) == ["photos", "recipe.yaml"]


def test_a_day_is_built_alone_and_once(daily: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = daily.parent / "out"
    assert build.main([str(daily), "ds=2026-11-21"]) == 0
    assert "version 0" in capsys.readouterr().out
    before = sorted(output.rglob("*"))
    assert build.main([str(daily), "ds=2026-11-21"]) == 0
    assert "unchanged" in capsys.readouterr().out
    assert sorted(output.rglob("*")) == before
    assert build.main([str(daily), "ds=2026-11-22"]) == 0
    days = DeltaTable(str(output)).to_pyarrow_table().column("ds").to_pylist()
    assert Counter(days) == {"2026-11-21": 4, "2026-11-22": 4}
    for arguments, named in (
        (["ds=1", "ds=2"], "expected one"),
        (["day=1"], "dataset.output.partition: found day=1, expected ds=VALUE"),
    ):
        assert build.main([str(daily), *arguments]) == 2
        assert named in capsys.readouterr().err
    assert build.main([str(daily), "ds=2001-01-01"]) == 3
    assert "found no rows to write" in capsys.readouterr().err
    assert DeltaTable(str(output)).version() == 1


@pytest.mark.parametrize("columns", ["40", "200"])
def test_paths_are_printed_whole(
    spark, daily: Path, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However narrow the terminal and long the path, and even if the path looks like markup."""
    monkeypatch.setenv("COLUMNS", columns)
    output = daily.parent / ("long" * 20) / "[bold]data[/bold]" / "[a]" / "x"
    command = [str(daily), f"dataset.output.path={output}", "ds=2026-11-21"]
    assert build.main([*command, "--dry-run"]) == 0
    assert f"{output}, dry run: nothing written" in capsys.readouterr().out.splitlines()
    assert build.main(command) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{output}, version 0"
    (seconds,) = (line for line in shown if line.startswith("│ seconds"))
    assert "commit" in seconds, "cells are not wrapped if stdout is not a terminal"
    assert build.main(command) == 0
    assert f"{output}: unchanged, version 0 has the same" in capsys.readouterr().out
    orphan = output / "shard-000001-0123456789ab-7.parquet"
    orphan.write_bytes(b"left over")
    os.utime(orphan, (time.time() - 7200,) * 2)
    assert build.main([*command, "--vacuum=1"]) == 0
    title, removed = capsys.readouterr().out.splitlines()
    assert title.startswith(f"{output}: removed 1 file that")
    assert removed.endswith(orphan.name)


def test_vacuum_from_the_command_line(daily: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main([str(daily), "--vacuum"]) == 2
    assert "--vacuum: found nothing" in capsys.readouterr().err
    assert build.main([str(daily), "ds=2026-11-21"]) == 0
    orphan = daily.parent / "out" / "shard-000001-0123456789ab-7.parquet"
    orphan.write_bytes(b"left over")
    os.utime(orphan, (time.time() - 7200,) * 2)
    capsys.readouterr()
    assert build.main([str(daily), "--vacuum"]) == 0
    assert "removed 0 files" in capsys.readouterr().out
    assert build.main([str(daily), "--vacuum=1"]) == 0
    shown = capsys.readouterr().out
    assert "removed 1 file that" in shown
    assert orphan.name in shown
    assert not orphan.exists()
    assert DeltaTable(str(daily.parent / "out")).to_pyarrow_table().num_rows == 4


def test_no_java_is_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    bare = {"PATH": str(tmp_path)}
    command = [sys.executable, "-m", "headrace.jobs.build", str(ROOT / "recipes" / "emoji.yaml")]
    done = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("headrace: java: found none")
    assert "openjdk-17-jdk-headless" in done.stderr
    assert done.stderr.count("\n") == 1


def test_spark_submit_runs_it(spark, table: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    spark.table(table).write.parquet(str(images))
    raw = yaml.safe_load((ROOT / "recipes" / "emoji.yaml").read_text())
    raw["dataset"] |= {"source": {"path": str(images)}, "output": {"path": str(tmp_path / "out")}}
    raw["spark"] |= {
        "spark.sql.warehouse.dir": str(tmp_path / "warehouse"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={tmp_path}/metastore;create=true",
        "spark.eventLog.dir": str(tmp_path / "nowhere"),
    }
    events = tmp_path / "events"
    events.mkdir()
    options = ["--conf", "spark.eventLog.enabled=true", "--conf", f"spark.eventLog.dir={events}"]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"spark": raw["spark"], "dataset": raw["dataset"]}))
    submit = Path(sys.executable).parent / "spark-submit"
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    for name in ("PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET"):
        environment.pop(name, None)
    done = subprocess.run(
        [submit, "--jars", headrace.udfs.jar.path(), *options, ROOT / "jobs" / "build.py", recipe],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert DeltaTable(str(tmp_path / "out")).version() == 0
    assert any(events.iterdir()), "options of spark-submit come before the recipe's"
