"""The source of a build: a table, a query or a folder of files, prepared for the recipe's query."""
