"""One trainer for every objective, with exact resume, probes, validation and many ranks."""
