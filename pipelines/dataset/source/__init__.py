"""The source of a build: opened from a table or files, and prepared for the recipe's query."""
