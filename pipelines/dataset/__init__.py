"""Dataset builds: a source table, a HiveQL query over references to media, Parquet shards, one Delta commit."""

from headrace.dataset.flatten import flatten, flatten_sql

__all__ = ["flatten", "flatten_sql"]
