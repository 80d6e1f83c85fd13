"""Recipes: reading, overrides, and the one-line error of a wrong recipe."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import RecipeError
from headrace.recipe import load_recipe

DATASET = {
    "source": {"table": "emoji"},
    "query": "SELECT image FROM source",
    "shuffle": {"key": "image_id"},
    "output": {"path": "data/emoji"},
}


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"dataset": DATASET}))
    return str(path)


def error_of(path: str, *overrides: str, needs: tuple[str, ...] = ()) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides, needs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_reads_sections_and_defaults(recipe: str) -> None:
    loaded = load_recipe(recipe, needs=["dataset"])
    assert loaded.dataset is not None
    assert loaded.dataset.source.table == "emoji"
    assert loaded.dataset.on_bad_row == "fail"
    assert loaded.training is None


def test_overrides_of_mappings_take_any_key_and_their_text_as_it_stands(recipe: str) -> None:
    overrides = [
        "spark.sql.shuffle.partitions=4",
        "spark.driver.extraJavaOptions=-Da=b",
        "spark.spark.sql.ansi.enabled=true",
    ]
    data = ["data.path=x", "data.batch_size=1", "data.where.day=2026-11-22", "data.where.hour=01"]
    loaded = load_recipe(recipe, [*overrides, *data, "dataset.split.parts.validation=0.1"])
    assert loaded.spark == {
        "spark.sql.shuffle.partitions": "4",
        "spark.driver.extraJavaOptions": "-Da=b",
        "spark.sql.ansi.enabled": "true",
    }
    assert loaded.data is not None
    assert loaded.data.where == {"day": "2026-11-22", "hour": "01"}
    assert loaded.dataset is not None
    assert loaded.dataset.split is not None
    assert loaded.dataset.split.parts == {"validation": 0.1}


def test_overrides_are_yaml_values_at_a_key_path(recipe: str) -> None:
    loaded = load_recipe(recipe, ["dataset.shards.target_bytes=4096", "training={run: runs/a, steps: 3}"])
    assert loaded.dataset is not None
    assert loaded.dataset.shards.target_bytes == 4096
    assert loaded.training is not None
    assert loaded.training.steps == 3


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("dataset.shufle.key=a", ["dataset.shufle: found an unknown key", "did you mean shuffle?"]),
        ("datset={}", ["datset: found an unknown key", "did you mean dataset?"]),
        ("dataset.shards.target_bytes=lots", ["dataset.shards.target_bytes: found 'lots'", "integer"]),
        ("dataset.shards.target_bytes=-1", ["dataset.shards.target_bytes: found -1", "greater than or equal to 1024"]),
        ("dataset.on_bad_row=ignore", ["dataset.on_bad_row: found 'ignore'", "'fail'", "'drop'"]),
        ("dataset.source.path=x", ["dataset.source: found", "exactly one of `table` and `path`"]),
        ("dataset.output={}", ["dataset.output.path: found nothing", "this key"]),
        ("training={run: r, steps: 0}", ["training.steps: found 0", "optimizer steps"]),
        ("training={run: r, steps: 1, activation: most}", ["training.activation: found 'most'", "'none'", "budget"]),
        ("model={heads: 7}", ["model: found {'heads': 7}", "heads that divide the 192 channels at level 1, not 7"]),
        ("model={text: {heads: 3}}", ["model.text: found {'heads': 3}", "heads that divide the 128 width"]),
        ("model={resolution: 33}", ["model: found", "a resolution divisible by 4"]),
        ("model={multipliers: []}", ["model.multipliers: found []", "at least 1 item"]),
        ("model={multipliers: [1, -1]}", ["model.multipliers.1: found -1", "greater than 0"]),
        ("model={attention: [9]}", ["model: found", "attention at levels from 0 to 1"]),
        ("model={network: dit, patch: 5}", ["model: found", "a resolution divisible by the patch, 5"]),
        ("training={run: r, steps: 1, learning_rate: .inf}", ["training.learning_rate: found inf", "finite"]),
        ("training={run: r, steps: 1, activation: -5}", ["training.activation: found -5"]),
        ("dataset.query=2020-99-99", ["dataset.query: found '2020-99-99'", "YAML"]),
        ("dataset.query.more=1", ["dataset.query.more: found 'SELECT image FROM source' at query", "a section"]),
        ("dataset.query", ["found 'dataset.query'", "key.path=value"]),
        ("dataset.query=[", ["dataset.query: found '['", "YAML"]),
    ],
)
def test_one_line_names_key_found_and_expected(recipe: str, override: str, parts: list[str]) -> None:
    message = error_of(recipe, override)
    for part in parts:
        assert part in message


def test_missing_section_is_named(recipe: str) -> None:
    assert error_of(recipe, needs=("training",)).endswith("training: found nothing, expected this section")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"dataset: [", "at line 1"),
        (b"data: {path: a}\ndata: {path: b}", "found the key data twice at line 2"),
        (b"- a\n- b\n", "expected sections"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "expected sections"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    assert part in error_of(str(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "none.yaml")
    assert error_of(path).startswith(f"{path}: found no such file")


LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(LEAVES, lambda values: st.lists(values) | st.dictionaries(st.text(), values)))
def test_any_yaml_value_is_a_recipe_or_one_line(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump({"dataset": value}))
    if value is None:
        assert load_recipe(str(path)).dataset is None
    else:
        assert "dataset" in error_of(str(path))


def test_every_recipe_in_the_repository_is_valid() -> None:
    recipes = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        load_recipe(str(path))
