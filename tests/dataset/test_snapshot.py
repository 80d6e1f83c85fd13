"""What a build is made from: whatever changes its rows changes its identity, and what cannot be compared has none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from headrace.dataset.query.samples import VIEW
from headrace.dataset.source.reader import open_source
from headrace.dataset.version.snapshot import SNAPSHOT, identity
from headrace.recipe.dataset import Source
from tests.dataset.conftest import recipe, row


@pytest.fixture
def photos(spark: SparkSession, parquet) -> Iterator[Path]:
    """A folder of Parquet files, which the view `source` and the table `photos_view` show."""
    path = parquet([row(0), row(1)])
    spark.read.parquet(str(path)).createOrReplaceTempView(VIEW)
    yield path
    for name in (VIEW, "other"):
        spark.catalog.dropTempView(name)
    spark.sql("DROP VIEW IF EXISTS photos_view")


def made_from(spark: SparkSession, photos: Path, query: str, source: Source | None = None) -> dict[str, str]:
    opened = open_source(spark, source or Source(path=str(photos)))
    return dict(identity(recipe(photos, photos / "out", query), opened, spark.sql(query), None))


PLAIN = "SELECT id, image FROM source"
JOINED = "SELECT s.id, s.image, o.caption FROM source s JOIN other o ON s.id = o.id"


def test_the_same_files_and_constants_are_the_same(spark: SparkSession, photos: Path) -> None:
    spark.sql("CREATE OR REPLACE TEMP VIEW other AS SELECT * FROM VALUES ('id000', 'a cat') AS t(id, caption)")
    for query in (PLAIN, JOINED, f"WITH t AS ({PLAIN}) SELECT * FROM t JOIN range(2)"):
        first = made_from(spark, photos, query)
        assert first[SNAPSHOT]
        assert made_from(spark, photos, query) == first


def test_constants_and_texts_of_views_count(spark: SparkSession, photos: Path) -> None:
    found = []
    for caption in ("a cat", "a dog"):
        spark.sql(f"CREATE OR REPLACE TEMP VIEW other AS SELECT * FROM VALUES ('id000', '{caption}') AS t(id, caption)")
        found.append(made_from(spark, photos, JOINED)[SNAPSHOT])
    for key in ("id", "upper(id) AS id"):
        spark.sql(f"CREATE OR REPLACE VIEW photos_view AS SELECT {key}, image FROM parquet.`{photos}`")
        found.append(made_from(spark, photos, PLAIN, Source(table="photos_view"))[SNAPSHOT])
    assert all(found)
    assert len(set(found)) == 4


def test_what_cannot_be_compared_is_new_each_time(spark: SparkSession, photos: Path) -> None:
    spark.createDataFrame([("id000", "a cat")], "id string, caption string").createOrReplaceTempView("other")
    assert made_from(spark, photos, JOINED)[SNAPSHOT] == ""
    assert made_from(spark, photos, PLAIN, Source(table="other"))[SNAPSHOT] == ""
    for clock in ("current_date()", "now()", "unix_timestamp()", "localtimestamp()"):
        assert made_from(spark, photos, f"{PLAIN} WHERE string({clock}) > ''")[SNAPSHOT] == "", clock


def test_settings_that_change_the_meaning_count(spark: SparkSession, photos: Path) -> None:
    found = [made_from(spark, photos, PLAIN)]
    for name, value in (("spark.sql.session.timeZone", "Asia/Tokyo"), ("spark.sql.ansi.enabled", "true")):
        before = spark.conf.get(name)
        spark.conf.set(name, value)
        found.append(made_from(spark, photos, PLAIN))
        spark.conf.set(name, str(before))
    spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", "false")
    found.append(made_from(spark, photos, PLAIN))
    spark.conf.unset("spark.sql.adaptive.coalescePartitions.enabled")
    assert [one["headrace.settings"] for one in found].count(found[0]["headrace.settings"]) == 2
    assert found[-1] == found[0]
