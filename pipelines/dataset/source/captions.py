"""Caption filters: captions are dropped before the query runs, and counted by reason."""

from functools import partial

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StringType

from headrace.dataset.query.media import quoted
from headrace.errors import RecipeError
from headrace.recipe.dataset import Captions

# The hidden column that counts how many captions of a row were dropped for each reason.
COUNTS = "__captions"


def filtered(frame: DataFrame, captions: Captions) -> tuple[DataFrame, dict[str, Column]]:
    """`frame` with only the captions that pass, and the column `COUNTS`; and for each reason the column of its counts.

    A caption is dropped for the first reason that applies. Nulls are not captions and stay. Raises RecipeError if the
    column does not exist or holds no captions, or if a pattern is not a regular expression.
    """
    if captions.column not in frame.columns:
        raise RecipeError(
            f"dataset.captions.column: found no column {captions.column!r} in the source, expected one of "
            f"{', '.join(frame.columns)}"
        )
    data_type = frame.schema[captions.column].dataType
    strings = ArrayType(StringType())
    in_map = isinstance(data_type, MapType) and _same(data_type.valueType, strings)
    if not in_map and not _same(data_type, strings):
        raise RecipeError(
            f"dataset.captions.column: found {captions.column!r} of type {data_type.simpleString()}, expected "
            "array<string> or a map to array<string>"
        )
    for key in ("matching", "not_matching"):
        _check_pattern(frame, key, getattr(captions, key))
    column = F.col(quoted(captions.column))
    kept = F.transform_values(column, lambda _, v: _kept(v, captions)) if in_map else _kept(column, captions)
    every = F.flatten(F.map_values(column)) if in_map else column
    counts = [
        _count(every, wrong, number, captions).alias(f"c{number}") for number, (_, wrong) in enumerate(_rules(captions))
    ]
    reasons = [reason for reason, _ in _rules(captions)]
    if captions.distinct:
        parts = F.map_values(column) if in_map else F.array(column)
        counts.append(
            F.aggregate(parts, F.lit(0), lambda n, v: n + F.coalesce(_repeats(v, captions), F.lit(0))).alias(
                f"c{len(counts)}"
            )
        )
        reasons.append("caption repeated")
    made = frame.withColumns({captions.column: kept, COUNTS: F.struct(*counts) if counts else F.lit(None)})
    return made, {reason: F.col(COUNTS).getField(f"c{number}") for number, reason in enumerate(reasons)}


def _same(one: DataType, other: DataType) -> bool:
    return one.simpleString() == other.simpleString()


def _check_pattern(frame: DataFrame, key: str, pattern: str | None) -> None:
    if pattern is None:
        return
    try:
        frame.sparkSession.range(1).select(F.regexp_like(F.lit(""), F.lit(pattern))).collect()
    except PySparkException:
        raise RecipeError(f"dataset.captions.{key}: found {pattern!r}, expected a Java regular expression") from None


def _rules(captions: Captions) -> list[tuple[str, "_Wrong"]]:
    """Each reason to drop a caption, with the test for it."""
    rules = []
    if captions.min_characters:
        rules.append((f"caption shorter than {captions.min_characters}", _Wrong("short", captions.min_characters)))
    if captions.max_characters is not None:
        rules.append((f"caption longer than {captions.max_characters}", _Wrong("long", captions.max_characters)))
    if captions.matching is not None:
        rules.append((f"caption not matching {captions.matching}", _Wrong("not like", captions.matching)))
    if captions.not_matching is not None:
        rules.append((f"caption matching {captions.not_matching}", _Wrong("like", captions.not_matching)))
    return rules


def _passes(wrong: "_Wrong", caption: Column) -> Column:
    return ~wrong(caption)


class _Wrong:
    """The test of one rule: true for captions to drop."""

    def __init__(self, test: str, limit: int | str) -> None:
        self._test, self._limit = test, limit

    def __call__(self, caption: Column) -> Column:
        if self._test == "short":
            wrong = F.char_length(caption) < self._limit
        elif self._test == "long":
            wrong = F.char_length(caption) > self._limit
        else:
            found = F.regexp_like(caption, F.lit(self._limit))
            wrong = ~found if self._test == "not like" else found
        return F.coalesce(wrong, F.lit(False))


def _kept(array: Column, captions: Captions) -> Column:
    kept = _passing(array, captions)
    return F.array_distinct(kept) if captions.distinct else kept


def _passing(array: Column, captions: Captions) -> Column:
    for _, wrong in _rules(captions):
        array = F.filter(array, partial(_passes, wrong))
    return array


def _count(array: Column, wrong: _Wrong, number: int, captions: Captions) -> Column:
    """How many captions rule `number` drops of those that pass the rules before it."""
    for _, earlier in _rules(captions)[:number]:
        array = F.filter(array, partial(_passes, earlier))
    return F.greatest(F.size(F.filter(array, wrong)), F.lit(0))


def _repeats(array: Column, captions: Captions) -> Column:
    passing = _passing(array, captions)
    return F.size(passing) - F.size(F.array_distinct(passing))
