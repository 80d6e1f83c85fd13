"""HTML reports of datasets, runs and evaluations."""
