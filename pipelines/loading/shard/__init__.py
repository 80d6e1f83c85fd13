"""One shard: its rows, its columns, and its images, decoded and fitted."""
