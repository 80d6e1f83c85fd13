"""Java functions over Optional, compared with hand-written UDFs, Spark's built-ins and Python in one run.

    python benchmarks/udfs.py [--rows 4000000] [--rounds 5]

Rows are in memory, and results go to Spark's noop sink. Each round runs every way, one after the other, so that noise
affects all of them; the shortest time of each counts. “× hand-written” compares whole times, including the scan of the
rows. CPU time is that of the JVM, the minimum over the rounds. It is more reliable than wall time on a busy machine,
but does not include Python's own time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from rich.console import Console
from rich.progress import track
from rich.table import Table

if not __package__:  # run as a script: this file would shadow the package of the same name
    sys.path[0] = str(Path(__file__).parents[1])

from headrace import udfs
from headrace.udfs.jar import build
from headrace.udfs.ledger import Ledger

SOURCES = Path(__file__).parent / "java"
METHODS = 50
LONGEST = "reduce(captions, CAST(NULL AS STRING), (a, x) -> IF(a IS NULL OR length(x) > length(a), x, a))"
TURNED = "named_struct('width', size.height, 'height', size.width)"
ROWS = """SELECT IF(id % 10 = 0, NULL, concat(' a picture of number ', id)) AS alt,
    concat('caption ', id % 1000, ' with a few more words ') AS caption,
    array(concat('first ', id), IF(id % 3 = 0, NULL, 'second of them'), concat('the third is ', id % 77)) AS captions,
    named_struct('width', CAST(id % 640 AS INT), 'height', CAST(id % 480 AS INT)) AS size FROM range({rows})"""


def session(jars: list[Path]) -> SparkSession:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.master": "local[2]",
        "spark.driver.memory": "6g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.jars": ",".join(map(str, jars)),
        "spark.sql.catalog.fn": "headrace.bridge.Catalog",
        "spark.sql.catalog.fn.classes": "bench.Functions",
    }
    spark = SparkSession.builder.config(map=settings).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def ways(spark: SparkSession, rows: DataFrame) -> dict[tuple[str, str], Callable[[], DataFrame]]:
    """Each way to compute each function, by (function, way). “hand-written” is the baseline."""
    fns = udfs.register(spark, "bench.Functions")
    spark.udf.registerJavaFunction("loud_by_hand", "bench.HandWritten$Loud", "string")
    spark.udf.registerJavaFunction("loud_optional", "bench.HandWritten$LoudOptional", "string")
    spark.udf.registerJavaFunction("longest_by_hand", "bench.HandWritten$Longest", "string")
    spark.udf.registerJavaFunction("turned_by_hand", "bench.HandWritten$Turned", "width int, height int")
    ledger = Ledger(spark)

    @F.udf("string", useArrow=True)
    def loud_python(alt: str | None, caption: str | None) -> str | None:
        text = alt if alt is not None else caption
        return None if text is None else text.strip().upper()

    @F.udf("string", useArrow=True)
    def longest_python(captions: list[str | None] | None) -> str | None:
        return max((text for text in captions or () if text is not None), key=len, default=None)

    def sql(expression: str) -> Callable[[], DataFrame]:
        return lambda: rows.selectExpr(f"{expression} AS result")

    return {
        ("two strings", "no function (scan)"): lambda: rows.select("alt", "caption"),
        ("two strings", "built-ins"): sql("upper(trim(coalesce(alt, caption)))"),
        ("two strings", "hand-written UDF2"): sql("loud_by_hand(alt, caption)"),
        ("two strings", "hand-written, Optional inside"): sql("loud_optional(alt, caption)"),
        ("two strings", "headrace"): lambda: rows.select(fns.loud("alt", "caption")),
        ("two strings", "headrace, function catalog"): sql("fn.functions.loud(alt, caption)"),
        ("two strings", "headrace, with a ledger"): lambda: ledger.observe(rows.select(fns.loud("alt", "caption"))),
        ("two strings", "Python UDF over Arrow"): lambda: rows.select(loud_python("alt", "caption")),
        ("array of strings", "built-ins"): sql(LONGEST),
        ("array of strings", "hand-written UDF1"): sql("longest_by_hand(captions)"),
        ("array of strings", "headrace"): lambda: rows.select(fns.longest("captions")),
        ("array of strings", "Python UDF over Arrow"): lambda: rows.select(longest_python("captions")),
        ("record", "built-ins"): sql(TURNED),
        ("record", "hand-written UDF1"): sql("turned_by_hand(size)"),
        ("record", "headrace"): lambda: rows.select(fns.turned("size")),
    }


def measure(spark: SparkSession, rows: DataFrame, count: int, rounds: int) -> Table:
    java = spark.sparkContext._jvm.bench.HandWritten
    seconds: dict[tuple[str, str], list[float]] = {}
    cpu: dict[tuple[str, str], list[float]] = {}
    heap: dict[tuple[str, str], float] = {}
    jobs = ways(spark, rows)
    for number in track(range(rounds + 1), "rounds, the first to warm up"):
        for key, way in jobs.items():
            bytes_before, cpu_before, started = java.allocated(), java.cpu(), time.perf_counter()
            way().write.format("noop").mode("overwrite").save()
            if number:
                seconds.setdefault(key, []).append(time.perf_counter() - started)
                cpu.setdefault(key, []).append((java.cpu() - cpu_before) / 1e9)
                heap[key] = (java.allocated() - bytes_before) / count
    table = Table(title=f"{count:,} rows, {rounds} rounds, local[2] on {os.cpu_count()} CPUs")
    for heading in ("function", "way", "least s", "median s", "× hand-written", "JVM CPU s", "bytes/row"):
        table.add_column(heading, justify="left" if heading in ("function", "way") else "right")
    for (function, way), times in seconds.items():
        by_hand = min(seconds[function, "hand-written UDF2" if function == "two strings" else "hand-written UDF1"])
        ratio = f"{min(times) / by_hand:.2f}"
        shown = (
            f"{min(times):.2f}",
            f"{statistics.median(times):.2f}",
            ratio,
            f"{min(cpu[function, way]):.2f}",
            f"{heap[function, way]:.0f}",
        )
        table.add_row(function, way, *shown)
    return table


def registration(spark: SparkSession, folder: Path) -> float:
    """Seconds to register a class of 50 methods, including their Python functions."""
    source = folder / "many" / "Many.java"
    source.parent.mkdir()
    argument = "java.util.Optional<java.util.List<java.util.Optional<String>>> texts, int count"
    methods = [f"public static java.util.Optional<String> f{i}({argument}) {{ return null; }}" for i in range(METHODS)]
    source.write_text("package many; public final class Many { " + "\n".join(methods) + " }")
    jar = build(source.parent, folder / "many.jar")
    started = time.perf_counter()
    udfs.register(spark, "many.Many", jar=jar)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spark = session([build(), build(SOURCES, folder / "bench.jar")])
        rows = spark.sql(ROWS.format(rows=arguments.rows)).repartition(2).persist()
        rows.count()
        console = Console(width=120)
        console.print(measure(spark, rows, arguments.rows, arguments.rounds))
        console.print(
            f"registration of a class of {METHODS} methods: {registration(spark, folder):.2f} s (aim: under 1)"
        )
        spark.stop()


if __name__ == "__main__":
    main()
