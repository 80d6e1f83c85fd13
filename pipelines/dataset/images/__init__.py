"""What a build computes of the source's images before the query runs: facts, conditions, near-duplicates."""
