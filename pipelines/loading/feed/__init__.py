"""From the order to ready batches, by threads."""
