"""Whether a build would make what is there already: hashes of recipe, code and source."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from deltalake import DeltaTable
from pyspark.sql import DataFrame

from pipelines.recipe.dataset import Dataset
from udfs import jar

PARTITION, SNAPSHOT = "headrace.partition", "headrace.snapshot"


def identity(recipe: Dataset, source: DataFrame, partition: tuple[str, str] | None) -> Mapping[str, str]:
    """What a build is made from, for the commit's metadata: recipe, code and source, each as a hash or a version."""
    code = version("headrace")
    if recipe.udfs:
        code += "+" + _hash(Path(jar.path()).read_bytes())
    described = recipe.model_dump_json(exclude={"output": {"path"}})
    return {
        "headrace.recipe": _hash(described.encode()),
        "headrace.code": code,
        "headrace.query": recipe.query,
        SNAPSHOT: _snapshot(source, partition),
        PARTITION: json.dumps(partition),
    }


def same_as(table: DeltaTable | None, made_from: Mapping[str, str]) -> int | None:
    """The version that was made from the same and still stands, or None.

    It stands if nothing was committed after it to its partition. A source without files has no snapshot and is new
    each time.
    """
    if table is None or not made_from[SNAPSHOT]:
        return None
    for entry in table.history():
        if PARTITION not in entry:  # somebody else's commit
            return None
        if entry[PARTITION] == made_from[PARTITION]:
            same = all(entry.get(name) == value for name, value in made_from.items())
            return int(entry["version"]) if same else None
    return None


def _snapshot(source: DataFrame, partition: tuple[str, str] | None) -> str:
    """A hash of the names, sizes and times of the source's files; empty if it has none.

    Of a source in folders `name=value`, those of other partitions do not count.
    """
    folders = {path.rpartition("/")[0] for path in source.inputFiles()}
    if partition is not None:
        of_any, of_this = f"/{partition[0]}=", f"/{partition[0]}={partition[1]}/"
        folders = {folder for folder in folders if of_any not in folder or of_this in f"{folder}/"}
    spark = source.sparkSession
    jvm = spark._jvm
    assert jvm is not None
    configuration = spark._jsparkSession.sessionState().newHadoopConf()
    found = []
    for folder in sorted(folders):
        path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(folder))
        listed = path.getFileSystem(configuration).listStatus(path)
        found += [f"{file.getPath()} {file.getLen()} {file.getModificationTime()}" for file in listed]
    return _hash("\n".join(sorted(found)).encode()) if found else ""


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
