"""The write stage: one shuffle, then one Parquet file for each shard."""
