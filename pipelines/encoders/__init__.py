"""Everything frozen in front of a network: encoders of captions and of images."""
