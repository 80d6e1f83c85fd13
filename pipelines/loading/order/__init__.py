"""The order of samples: a pure function of the version, the seed and the epoch."""
