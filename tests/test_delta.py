"""What a Delta table may ask of its reader, and the paths that its log may store."""

from __future__ import annotations

import pytest

from headrace.delta import file_path, unknown_features

NAME = {"delta.columnMapping.mode": "name"}
MAPPED = "columnMapping (delta.columnMapping.mode = name)"


@pytest.mark.parametrize(
    ("version", "features", "configuration", "unknown"),
    [
        (1, None, {}, []),
        (2, None, {"delta.columnMapping.mode": "none"}, []),
        (3, ["timestampNtz", "vacuumProtocolCheck", "columnMapping", "v2Checkpoint"], {"delta.appendOnly": "true"}, []),
        (1, None, NAME, [MAPPED]),
        (2, None, NAME, [MAPPED]),
        (3, ["columnMapping"], {"delta.columnMapping.mode": "id"}, ["columnMapping (delta.columnMapping.mode = id)"]),
        (3, ["variantType", "deletionVectors"], {}, ["deletionVectors", "variantType"]),
        (3, ["tomorrow's"], {}, ["tomorrow's"]),
        (3, None, {}, ["minReaderVersion 3 without readerFeatures"]),
        (4, [], {}, ["minReaderVersion 4"]),
        (0, None, {}, ["minReaderVersion 0"]),
    ],
)
def test_what_is_not_known_is_named(version: int, features: list | None, configuration: dict, unknown: list) -> None:
    assert unknown_features(version, features, configuration) == unknown


@pytest.mark.parametrize(
    ("stored", "path"),
    [
        ("a.parquet", "a.parquet"),
        ("k=y%2520z/a..b.parquet", "k=y%20z/a..b.parquet"),
        ("/elsewhere/../a.parquet", "/elsewhere/../a.parquet"),
        ("file:/a%20b/c.parquet", "file:/a b/c.parquet"),
        ("s3://bucket/a.parquet", "s3://bucket/a.parquet"),
    ],
)
def test_paths_are_decoded_once(stored: str, path: str) -> None:
    assert file_path(stored) == path


@pytest.mark.parametrize("stored", ["", "../a", "a/../../b", "%2e%2e/a", "a/%2E%2E", "..", "a%00b", "time=12:/../../a"])
def test_a_relative_path_stays_inside_the_table(stored: str) -> None:
    with pytest.raises(ValueError, match=r"found the path .* of a file, expected"):
        file_path(stored)
