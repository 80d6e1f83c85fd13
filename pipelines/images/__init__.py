"""What an image file is: its format and size, its pixels, its edges and its hashes."""
