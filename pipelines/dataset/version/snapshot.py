"""Whether a build would repeat the current version: hashes of recipe, code and source."""

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from headrace.dataset.partitions import Partition, spelled
from headrace.dataset.query.plan import analysed, items, kind, nodes, reads_files
from headrace.dataset.query.samples import VIEW
from headrace.dataset.source.reader import Opened
from headrace.files import local_path
from headrace.recipe.dataset import Dataset
from headrace.udfs import jar

PARTITION, SOURCE, SNAPSHOT, RUN = "headrace.partition", "headrace.source", "headrace.snapshot", "headrace.run"
# Settings of the session, or beginnings of their names, that change what a query means or what files hold.
_MEANING = (
    *("spark.sql.session.timeZone", "spark.sql.caseSensitive", "spark.sql.ansi.", "spark.sql.legacy."),
    *("spark.sql.mapKeyDedupPolicy", "spark.sql.timestampType", "spark.sql.files.ignore", "spark.sql.hive.convert"),
    *("spark.sql.parquet.", "spark.sql.orc.", "spark.sql.json", "spark.sql.csv"),
)


def identity(recipe: Dataset, opened: Opened, query: DataFrame, partition: Partition | None) -> Mapping[str, str]:
    """What a build is made from, for the commit's metadata: recipe, code and source, each as a hash or a version.

    `query` is the result of the recipe's query, which may read other tables besides the source.
    """
    code = version("headrace")
    if recipe.udfs:
        jars = (str(jar.path()), *recipe.jars)
        code += "+" + _hash(b"".join(_content(query.sparkSession, file) for file in jars))
    described = recipe.model_dump_json(exclude={"output": {"path"}})
    return {
        "headrace.recipe": _hash(described.encode()),
        "headrace.code": code,
        "headrace.query": recipe.query,
        SOURCE: json.dumps(opened.described),
        "headrace.settings": _settings(query.sparkSession),
        SNAPSHOT: _snapshot(opened, query, partition),
        PARTITION: json.dumps(partition),
    }


def _content(spark: SparkSession, file: str) -> bytes:
    """The bytes of a local jar; of one elsewhere, its name, size and modification time."""
    local = local_path(file)
    if local is not None:
        return local.read_bytes()
    jvm: Any = spark._jvm
    path = jvm.org.apache.hadoop.fs.Path(file)
    files = path.getFileSystem(spark._jsparkSession.sessionState().newHadoopConf())
    return _line(files.getFileStatus(path)).encode()


def same_as(table: DeltaTable | None, made_from: Mapping[str, str]) -> int | None:
    """The current version if it was made from the same inputs, else None.

    Commits to other partitions do not matter. A build without a snapshot counts as new each time.
    """
    if table is None or not made_from[SNAPSHOT]:
        return None
    for entry in table.history():
        if PARTITION not in entry:  # a commit that headrace did not make
            return None
        if entry[PARTITION] == made_from[PARTITION]:
            # SOURCE has the Delta version of the source, which commits to other partitions change too.
            same = all(entry.get(name) == value for name, value in made_from.items() if name != SOURCE)
            return int(entry["version"]) if same else None
        if "null" in {entry[PARTITION], made_from[PARTITION]}:  # a build of the whole table, and one of a part of it
            return None
    return None


def _snapshot(opened: Opened, query: DataFrame, partition: Partition | None) -> str:
    """A hash of the names, sizes and modification times of the files that a build reads, and of the views over them.

    Files of a Delta table never change, so their names are enough. If the source has folders `name=value`, files of
    other partitions do not count. A source that lists its files itself tells whether they are the same. Empty if the
    build reads no files, or anything that may change and does not show it: rows in memory, other databases, the clock.
    """
    inputs = list(nodes(analysed(query), VIEW))
    if not opened.fingerprint:
        inputs += nodes(analysed(opened.frame))
    described = [_described(node) for node in inputs]
    if None in described:
        return ""
    of_source = set(opened.frame.inputFiles())
    others = set(query.inputFiles()) - of_source
    frozen = "version" in opened.described
    found = sorted(of_source) if frozen else _listed(opened.frame.sparkSession, of_source)
    if partition is not None and not frozen:
        found = _of_partition(opened.frame, found, partition)
    found += [opened.fingerprint] if opened.fingerprint else []
    found += _listed(opened.frame.sparkSession, others)
    found += filter(None, described) if found else []
    return _hash("\n".join(found).encode()) if found else ""


def _described(node: Any) -> str | None:
    """What to compare of a plan's node besides the query's text and files: the text of a view, constant rows.

    None for a node whose result may change unseen.
    """
    name = kind(node)
    if any(_reads_the_clock(expression) for expression in items(node.expressions())):
        return None
    if name == "View":
        text = node.desc().viewText()
        return str(text.get()) if text.isDefined() else ""
    if name in {"LocalRelation", "Range"}:
        return str(node.data().toString() if name == "LocalRelation" else node.toString())
    if reads_files(node) or name in {"HiveTableRelation", "OneRowRelation", "CTERelationRef"} or items(node.children()):
        return ""
    return None


def _reads_the_clock(expression: Any) -> bool:
    name = kind(expression)
    if name.startswith(("CurrentDate", "CurrentTime")) or name in {"Now", "LocalTimestamp", "LocalTime"}:
        return True
    return any(_reads_the_clock(child) for child in items(expression.children()))


def _settings(spark: SparkSession) -> str:
    """A hash of the session's settings that change what a query means or what files hold."""
    found = {name: value for name, value in spark.conf.getAll.items() if name.startswith(_MEANING)}
    return _hash(json.dumps(found, sort_keys=True).encode())


def _of_partition(source: DataFrame, files: list[str], partition: Partition) -> list[str]:
    """The `files` of the source that are not in folders of other partitions."""
    name, value = partition
    folders = {file: re.findall(f"/{re.escape(name)}=([^/]*)/", file) for file in files}
    texts = {unquote(text) for found in folders.values() for text in found}
    values = spelled(source.sparkSession, texts, source.schema[name].dataType) if texts else {}
    return [file for file, found in folders.items() if all(values.get(unquote(text)) == value for text in found)]


def _listed(spark: SparkSession, paths: set[str]) -> list[str]:
    """Name, size and time of the files in the folders of `paths`, and under those `paths` that are folders (Hive)."""
    jvm = spark._jvm
    assert jvm is not None
    configuration = spark._jsparkSession.sessionState().newHadoopConf()
    found = []
    folders_read = {
        re.sub("^file:/+", "file:/", path) for path in paths
    }  # the form in which Hadoop writes a local path
    for folder in {path.rpartition("/")[0] for path in paths}:
        path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(folder))
        files = path.getFileSystem(configuration)
        for entry in files.listStatus(path):
            if entry.isFile():
                found.append(_line(entry))
            elif entry.getPath().toString() in folders_read:
                inside = files.listFiles(entry.getPath(), True)
                while inside.hasNext():
                    found.append(_line(inside.next()))
    return sorted(found)


def _line(file: Any) -> str:
    return f"{file.getPath()} {file.getLen()} {file.getModificationTime()}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
