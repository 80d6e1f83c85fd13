"""The recipe's HiveQL query: which columns hold media, what the query does with them, and how it runs."""
