"""The report of a dataset: its counts compared with counts by hand, and the page in a real browser."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from headrace.dataset.build import build
from headrace.jobs.report import main
from headrace.recipe.dataset import Dataset
from headrace.reports.dataset_card import DatasetCard, read_dataset
from headrace.reports.dataset_charts import charts
from headrace.reports.dataset_sample import Sampled
from headrace.reports.pictures import thumbnail
from tests.reports.browser import show

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.binary()),
        ("captions", pa.map_(pa.string(), pa.list_(pa.string()))),
        ("conditions", pa.list_(pa.struct([("kind", pa.string()), ("image", pa.binary())]))),
    ]
)
QUERY = """SELECT id, image, language, caption, c.kind AS condition_kind, c.image AS condition
FROM source
LATERAL VIEW OUTER explode(captions) l AS language, names
LATERAL VIEW OUTER explode(names) n AS caption
LATERAL VIEW explode(conditions) u AS c"""
PHOTOS = 10


def captions_of(number: int) -> dict[str, list[str]]:
    """number % 3 captions in English, of 2, 3, … words, and one in German (two for photo 1). Photo 4 has none."""
    english = [" ".join(["word"] * (n + 1)) + f" <{number}>" for n in range(number % 3)]
    german = [f"Bild Nummer {number}", "Bild"][: 2 if number == 1 else 1]
    return {} if number == 4 else {"en": english, "de": german}


def drawn(number: int, side: int) -> bytes:
    pixels = np.full((side, side + 8 * (number % 2), 3), 255, np.uint8)
    cv2.circle(pixels, (side // 2, side // 2), side // 3, (20 * number, 40, 200 - 20 * number), -1)
    return cv2.imencode(".png", pixels)[1].tobytes()


def photo(number: int) -> dict:
    image = drawn(number, 48)
    edges = cv2.imencode(".png", cv2.Canny(cv2.imdecode(np.frombuffer(image, np.uint8), 0), 50, 150))[1].tobytes()
    conditions = [{"kind": "edges", "image": edges}, {"kind": "small", "image": drawn(number, 16)}]
    return {
        "id": f"photo-{number}",
        "image": image,
        "captions": list(captions_of(number).items()),
        "conditions": conditions,
    }


@pytest.fixture(scope="module")
def dataset(spark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions. The second's query excludes photo 0, and its source has four more photos, one of them broken."""
    folder = tmp_path_factory.mktemp("card")
    (folder / "source").mkdir()

    def made(query: str, photos: list[dict]) -> None:
        pq.write_table(pa.Table.from_pylist(photos, SCHEMA), folder / "source" / "part-0.parquet")
        spark.catalog.refreshByPath(str(folder / "source"))
        recipe = {
            "source": {"path": str(folder / "source")},
            "query": query,
            "shuffle": {"key": "id"},
            "shards": {"target_bytes": 2048},
            "output": {"path": str(folder / "photos")},
            "on_bad_row": "drop",
        }
        build(spark, Dataset.model_validate(recipe))

    photos = [photo(number) for number in range(PHOTOS)]
    made(QUERY, photos[:8])
    broken = {**photo(PHOTOS + 1), "image": photos[1]["image"][:40]}
    made(QUERY + "\nWHERE id <> 'photo-0'", [*photos, photo(PHOTOS), broken])
    return folder / "photos"


@pytest.fixture(scope="module")
def card(dataset: Path) -> DatasetCard:
    return read_dataset(str(dataset))


def test_charts_count_what_is_there(card: DatasetCard) -> None:
    conditioning = [captions_of(number) for number in range(1, PHOTOS + 1)]
    english, german = ([text for each in conditioning for text in each.get(name, [])] for name in ("en", "de"))
    words = [len(text.split()) for text in english + german]
    captions = [sum(map(len, each.values())) for each in conditioning]
    by_title = {chart.title: {bar.label: bar.count for bar in chart.bars if bar.count} for chart in card.charts}
    assert by_title == {
        "Words in a caption": {str(n): words.count(n) for n in sorted(set(words))},
        "Captions for an image": {str(n): captions.count(n) for n in sorted(set(captions))},
        "Languages of captions": {"de": len(german), "en": len(english)},
        "Image sizes, width × height": {"48 × 48": 5, "56 × 48": 5},
    }
    assert card.sampled == "Counted over all rows."


def test_pictures_have_their_captions_and_conditions(card: DatasetCard) -> None:
    shown = {picture.name: picture for picture in card.pictures}
    assert set(shown) == {f"photo-{number}" for number in range(1, PHOTOS + 1)}
    five = shown["photo-5"]
    assert sorted(five.captions) == [("de", "Bild Nummer 5"), ("en", "word <5>"), ("en", "word word <5>")]
    assert five.image == thumbnail(photo(5)["image"])
    assert five.conditions == [(c["kind"], thumbnail(c["image"])) for c in photo(5)["conditions"]]
    assert shown["photo-4"].captions == []


def test_versions_tell_what_changed(dataset: Path, card: DatasetCard) -> None:
    new, old = card.versions
    assert (old.number, old.changes, old.query) == (0, "first build", [])
    rows = [DeltaTable(str(dataset), version=version).to_pyarrow_table().num_rows for version in (0, 1)]
    assert old.rows == f"{rows[0]}"
    assert new.rows == f"{rows[1]} ({rows[1] - rows[0]:+})"
    assert (new.images, new.changes) == ("10 (+2)", "recipe, source")
    assert new.query[-1] == "+WHERE id <> 'photo-0'"
    assert new.dropped == "6 image: truncated"


def test_long_tails_are_put_together() -> None:
    (chart,) = charts(Sampled(languages={f"l{n:02d}": 100 - n for n in range(20)}), has_languages=True)
    assert [bar.label for bar in chart.bars] == [*(f"l{n:02d}" for n in range(11)), "9 others"]
    assert sum(bar.count for bar in chart.bars) == sum(100 - n for n in range(20))
    (chart,) = charts(Sampled(words=[1, 1, 1000]), has_languages=False)
    assert len(chart.bars) <= 24
    assert sum(bar.count for bar in chart.bars) == 3
    assert charts(Sampled(), has_languages=True) == []


def test_large_images_are_shrunk() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), np.uint8)
    uri = thumbnail(cv2.imencode(".png", noise)[1].tobytes())
    assert uri is not None
    assert uri.startswith("data:image/jpeg")
    assert len(uri) < 100_000
    assert thumbnail(b"no image at all") is None


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 420])
def test_in_a_browser(dataset: Path, tmp_path: Path, width: int) -> None:
    assert main([str(dataset)]) == 0
    page = show(dataset / "_headrace" / "report.html", tmp_path, width)
    assert page["title"] == "photos"
    assert page["headings"] == ["Dataset", "Images", "Contents", "Absence", "Versions", "Example rows"]
    assert page["undecoded"] == page["unseen"] == page["fetched"] == []
    assert page["images"] >= 3 * PHOTOS
    assert page["sideways"] <= 0, "the page is wider than its window"
    assert len(page["cards"]) == PHOTOS
    assert any("word word <5>" in card and "photo-5" in card for card in page["cards"])
    shown = {chart["title"]: chart for chart in page["charts"]}
    heights = shown["Captions for an image"]["heights"]
    captions = [sum(map(len, captions_of(number).values())) for number in range(1, PHOTOS + 1)]
    counts = np.bincount(captions)
    assert np.allclose(np.array(heights) / max(heights), counts / counts.max(), atol=0.02)
    german, english = shown["Languages of captions"]["widths"]
    assert np.isclose(english / german, 9 / 10, atol=0.02)
    picture = cv2.imread(str(tmp_path / "page.png"))
    assert picture.shape[1] == width
    assert picture.std() > 10


def test_columns_that_a_shard_lacks_are_null(tmp_path: Path) -> None:
    """A partition column is in no file, and a column that a later build added is not in older ones."""
    first = pa.table({"image": [drawn(0, 8)], "language": ["en"]})
    second = pa.table({"image": [drawn(1, 8)], "language": ["de"], "caption": ["Bild"], "condition": [drawn(2, 8)]})
    for table in (first, second):
        write_deltalake(str(tmp_path), table, partition_by=["language"], mode="append", schema_mode="merge")
    card = read_dataset(str(tmp_path))
    assert card.columns == ["image", "language", "caption", "condition"]
    assert len(card.pictures) == 2
