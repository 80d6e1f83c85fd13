"""One trainer for every objective: exact resume, probes, validation, many ranks."""
