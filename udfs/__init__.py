"""Java functions over Optional as SQL functions."""
