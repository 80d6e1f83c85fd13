"""From a table of captioned images to a trained generative model."""
