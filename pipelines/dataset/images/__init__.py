"""What a build computes from the source's images before the query runs: facts, conditions and near-duplicates."""
