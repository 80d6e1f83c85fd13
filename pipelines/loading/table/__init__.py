"""The table that a loader reads: its Delta log, its files, and local copies of remote files."""
