"""HTML reports of datasets, runs and evaluations, and the figures in them."""
