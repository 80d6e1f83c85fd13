"""The recipe's HiveQL: which columns hold media, what the query does with them, and how it is run."""
