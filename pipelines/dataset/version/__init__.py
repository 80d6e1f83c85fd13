"""Versions of a dataset: the commit, its summary and lineage, and the removal of files that no version uses."""
