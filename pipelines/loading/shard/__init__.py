"""One shard: its rows, its columns, its images, decoded and fitted."""
