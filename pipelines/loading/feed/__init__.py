"""The threads that turn the order into finished batches."""
