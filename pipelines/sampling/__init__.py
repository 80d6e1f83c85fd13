"""From a run and its `sampling` section to images: requests, drawing in batches, files, and grids."""
