"""Where rows go: the identity of a source row, its place in the seeded order, and its shard.

A row's order is a seeded hash of its home: the row itself, or its image's content if identical images must end up in
the same shard. With partitions, the lowest 12 bits of the order are replaced by the number of the row's partition, so
that a handle, which carries the order, determines the shard.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from pyspark.sql import Column
from pyspark.sql import functions as F

from headrace.dataset.partitions import partition_value
from headrace.dataset.query.media import quoted

PARTITION_BITS = 12
MOST_PARTITIONS = 1 << PARTITION_BITS


@dataclass(frozen=True)
class Rows:
    """How the rows of a source are identified and ordered.

    `key` is the column that identifies them. Rows with equal values in the column `home` (None: the key) go to one
    shard. `partition` is the column whose values are the table's partitions, and `values` are all of these, as text.
    """

    key: str
    seed: int = 0
    home: str | None = None
    partition: str | None = None
    values: tuple[str | None, ...] = ()

    @cached_property
    def row(self) -> Column:
        """The 64-bit identity of a source row: a hash of its key."""
        return F.xxhash64(F.col(quoted(self.key)))

    @cached_property
    def order(self) -> Column:
        """The place of a source row in the order: a 64-bit integer."""
        home = self.row
        if self.home is not None:
            column = F.col(quoted(self.home))
            home = F.when(column.isNull(), home).otherwise(F.xxhash64(column))
        return self.ordered(home, None if self.partition is None else partition_value(F.col(quoted(self.partition))))

    def ordered(self, home: Column, partition: Column | None, by_media: bool = False) -> Column:
        """The place in the order for this `home` and, if there are partitions, this partition value.

        A value that the source does not have ends the build, unless rows go where their media are (`by_media`): then
        only a row without any media is placed by its value, and such a row is bad.
        """
        order = F.xxhash64(F.lit(self.seed), home)
        if not self.values:
            return order
        number = F.lit(0)
        if partition is not None:
            known = _lookup({v: i for i, v in enumerate(self.values) if v is not None}, partition)
            of_null = F.lit(self.values.index(None) if None in self.values else None).cast("int")
            said = F.concat(F.lit(f"found {self.partition}="), F.coalesce(partition, F.lit("")))
            unknown = F.raise_error(F.concat(said, F.lit(", expected a value that the source has"))).cast("int")
            number = F.coalesce(F.when(partition.isNull(), of_null).otherwise(known), F.lit(0) if by_media else unknown)
        return F.shiftleft(F.shiftright(order, PARTITION_BITS), PARTITION_BITS).bitwiseOR(number.cast("long"))


@dataclass(frozen=True)
class Placement:
    """The number of shards of each partition (a single number without partitions), and what is spread over several.

    `hot_rows` maps a row with very many samples to the number of shards that share its samples. `hot_orders` maps a
    place in the order with very many rows to the number of shards that share these rows.
    """

    shards: tuple[int, ...]
    hot_rows: Mapping[int, int] = field(default_factory=dict)
    hot_orders: Mapping[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of shards over all partitions."""
        return sum(self.shards)

    def partition_of(self, shard: int) -> int:
        """The number of the partition that shard number `shard` belongs to."""
        for number, count in enumerate(self.shards):
            if shard < count:
                return number
            shard -= count
        raise IndexError(shard)

    def shard(self, order: Column, row: Column, sample: Column | None) -> Column:
        """The shard of a sample with 64-bit hash `sample`; if it is None, an array of all shards of a row's media."""
        dealt = F.lit(0).cast("long")
        if self.hot_orders:
            dealt = F.pmod(row, F.coalesce(_lookup(self.hot_orders, order), F.lit(1)).cast("long"))
        if not self.hot_rows:
            shard = self._at(order, dealt)
            return shard if sample is not None else F.array(shard)
        parts = F.coalesce(_lookup(self.hot_rows, row), F.lit(1)).cast("long")
        if sample is not None:
            return self._at(order, dealt + F.pmod(sample, parts))
        every = F.sequence(F.lit(0).cast("long"), F.least(parts, F.lit(self.total).cast("long")) - 1)
        return F.array_distinct(F.transform(every, lambda part: self._at(order, dealt + part)))

    def _at(self, order: Column, dealt: Column) -> Column:
        """The shard `dealt` places after that of `order`, in the same partition."""
        if len(self.shards) == 1:
            return F.pmod(F.pmod(order, F.lit(self.shards[0])) + dealt, F.lit(self.shards[0])).cast("int")
        number = order.bitwiseAND(F.lit(MOST_PARTITIONS - 1)).cast("int") + 1
        firsts = [sum(self.shards[:i]) for i in range(len(self.shards))]
        first, count = (
            F.element_at(F.array(*map(F.lit, counts)), number).cast("long") for counts in (firsts, self.shards)
        )
        hashed = F.pmod(F.shiftright(order, PARTITION_BITS), count)
        return (first + F.pmod(hashed + dealt, count)).cast("int")


def _lookup(values: Mapping, key: Column) -> Column:
    """The value of `key` in a literal map; null if it is not there."""
    if not values:
        return F.lit(None).cast("int")
    return F.element_at(F.create_map(*(F.lit(item) for pair in values.items() for item in pair)), key)
