"""How good are a generator's pictures? Measured in the feature space of a small classifier."""
