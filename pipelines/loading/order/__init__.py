"""The order of samples: a pure function of the dataset version, the seed and the epoch."""
