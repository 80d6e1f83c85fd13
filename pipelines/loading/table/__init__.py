"""The table that a loader reads: its log, its files, and copies of them on the local disk."""
