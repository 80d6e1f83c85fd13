"""Writing: one shuffle, then one Parquet file for each shard."""
