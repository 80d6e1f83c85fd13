"""A dataset on a real S3 server: built, rebuilt, read by the loader, reported. See also test_versions.py."""

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.dataset.build import build
from headrace.dataset.storage import filesystem
from headrace.jobs import report
from headrace.loading import ShardLoader
from tests.dataset.conftest import SCHEMA, listed, recipe, row

QUERY = "SELECT id, image, caption FROM source LATERAL VIEW explode(captions) t AS caption"


def test_a_dataset_goes_there_and_comes_back(spark, parquet, uri: str) -> None:
    rows = [row(i) for i in range(6)]
    source = parquet(rows)
    made = recipe(source, uri, QUERY, shards={"target_bytes": 1024})
    assert build(spark, made).version == 0
    assert build(spark, made).unchanged
    loader = ShardLoader(uri, batch_size=4, size=8, columns=["id", "image", "caption"], decode={"image": "rgb"})
    read = [(key, caption) for batch in loader for key, caption in zip(batch["id"], batch["caption"], strict=True)]
    assert sorted(read) == sorted((r["id"], caption) for r in rows for caption in r["captions"])
    pq.write_table(pa.Table.from_pylist([row(9)], SCHEMA), source / "part-1.parquet")
    spark.catalog.refreshByPath(str(source))
    assert build(spark, made).version == 1
    names = listed(uri)
    assert {"_headrace/absence-1.json", "_headrace/lineage-1.json"} <= names
    assert report.main([uri]) == 0
    files, folder = filesystem(uri)
    with files.open_input_stream(f"{folder}/_headrace/report.html") as page:
        assert b"one of 9" in page.read()
    assert not any(name.endswith("/") for name in names)
