"""Images of the source: checks, facts, derived conditions and near-duplicates, computed before the query runs."""
