"""Dataset builds: source table → HiveQL over references to media → Arrow shards → one Delta commit."""
