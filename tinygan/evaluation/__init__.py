"""How good are a generator's pictures? Measured with the features of a small classifier."""
