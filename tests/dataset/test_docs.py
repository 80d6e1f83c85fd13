"""Every recipe in docs/datasets.md can be built."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable

from headrace.dataset.build import build
from headrace.recipe import Recipe
from tests.dataset.conftest import png

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"
RECIPES = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
SCHEMA = pa.schema(
    [
        *(("photo_id", pa.string()), ("image", pa.binary()), ("captions", pa.list_(pa.string()))),
        ("names", pa.map_(pa.string(), pa.list_(pa.string()))),
        ("conditions", pa.list_(pa.struct([("kind", pa.string()), ("image", pa.binary())]))),
        ("ds", pa.string()),
    ]
)
# The number of rows that each recipe gives for the photos below.
ROWS = [6, 10, 5, 25, 5, 6, 2, 2, 4, 6]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five photos, two of them without captions."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    captions = [["a", "b"], ["c", "d"], ["e", "f"], [], None]
    photos = [
        {
            "photo_id": f"photo-{i}",
            "image": png(i),
            "captions": captions[i],
            "names": [("en", ["one"])] if i % 2 == 0 else None,
            "conditions": [{"kind": kind, "image": png(100 + i)} for kind in ("edges", "silhouette")],
            "ds": "2026-11-22",
        }
        for i in range(5)
    ]
    pq.write_table(pa.Table.from_pylist(photos, SCHEMA), tmp_path / "photos" / "part-0.parquet")
    (tmp_path / "folder").mkdir()
    for i in range(2):
        (tmp_path / "folder" / f"{i}.png").write_bytes(png(i))
    (tmp_path / "folder" / "0.txt").write_text("a caption")
    (tmp_path / "described").mkdir()
    for i in range(4):
        (tmp_path / "described" / f"{i}.png").write_bytes(png(i))
    described = [{"file_name": f"{i}.png", "text": "a", "mask_file_name": f"{i + 2}.png"} for i in range(2)]
    (tmp_path / "described" / "metadata.jsonl").write_text("\n".join(map(json.dumps, described)))
    return tmp_path


def test_all_are_known() -> None:
    assert len(RECIPES) == len(ROWS)


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_builds(spark, photos: Path, number: int) -> None:
    recipe = Recipe.model_validate(yaml.safe_load(RECIPES[number])).dataset
    assert recipe is not None
    source = recipe.source.model_copy(update={"path": str(photos / str(recipe.source.path))})
    recipe = recipe.model_copy(update={"source": source})
    if recipe.on_bad_row == "quarantine":
        table = pq.read_table(photos / "photos" / "part-0.parquet").to_pylist()
        table[0]["image"] = table[0]["image"][:50]
        pq.write_table(pa.Table.from_pylist(table, SCHEMA), photos / "photos" / "part-0.parquet")
    partition = ("ds", "2026-11-22") if recipe.output.partition == "ds" else None
    summary = build(spark, recipe, partition)
    assert summary.rows == ROWS[number]
    assert (summary.by_value is not None) == ("by-value" in recipe.output.path)
    assert DeltaTable(recipe.output.path).to_pyarrow_table().num_rows == ROWS[number]
