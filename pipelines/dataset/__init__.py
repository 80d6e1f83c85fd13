"""Dataset builds: source table → HiveQL over references to media → Arrow shards → one Delta commit."""

from headrace.dataset.flatten import flatten, flatten_sql

__all__ = ["flatten", "flatten_sql"]
