"""Near-duplicates: images whose perceptual hashes differ in few bits, and which of them are kept.

Of two such images, the one with more pixels is kept, or the one with the smaller key if they have equally many. The
decision is made pair by pair, so the result does not depend on the order or number of tasks.

Two hashes that differ in at most d bits agree on at least one of d + 1 bands of bits, so a hash is compared only with
those that share a band (multi-index hashing, Norouzi et al. 2012). Equal hashes are grouped first, so the cost of a
hash that very many images share (blank ones, for example) is only linear in their number.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.images.hashes import HASH_BITS


def near_duplicates(facts: DataFrame, distance: int) -> DataFrame:
    """The column `key` of the images to leave out.

    `facts` has the columns `key`, `hash` (an image with a null is never a duplicate) and `pixels`, their number.
    """
    ranked = facts.where("hash IS NOT NULL").select("key", "hash", F.struct(-F.col("pixels"), "key").alias("rank"))
    best = ranked.groupBy("hash").agg(F.min("rank").alias("best"))
    if distance:
        best = _better(best, distance)
    return ranked.join(best, "hash").where("rank > best").select("key")


def _better(best: DataFrame, distance: int) -> DataFrame:
    """For each hash, the best rank among all hashes within `distance` of it, including its own."""
    bands = F.array(
        *(F.struct(F.lit(i).alias("band"), _band(i, distance + 1).alias("bits")) for i in range(distance + 1))
    )
    banded = best.select("hash", "best", F.explode(bands).alias("of"))
    one, other = banded.alias("one"), banded.alias("other")
    near = one.join(other, "of").where(
        (F.bit_count(F.col("one.hash").bitwiseXOR(F.col("other.hash"))) <= distance)
        & (F.col("other.best") < F.col("one.best"))
    )
    better = near.groupBy(F.col("one.hash").alias("hash")).agg(F.min("other.best").alias("better"))
    return best.join(better, "hash", "left").select("hash", F.least("best", F.coalesce("better", "best")).alias("best"))


def _band(number: int, bands: int) -> Column:
    """The bits of the hash in band `number` of `bands`."""
    start, end = (HASH_BITS * i // bands for i in (number, number + 1))
    bits = F.shiftrightunsigned("hash", start)
    width = end - start
    return bits if width == HASH_BITS else bits.bitwiseAND(F.lit((1 << width) - 1))
