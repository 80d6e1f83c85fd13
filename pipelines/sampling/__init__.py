"""From a finished run to images: what is asked for, drawn in batches, written as files and grids."""
