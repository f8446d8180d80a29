"""The fast engine on graphics cards, through CuPy: one training step as a whole, captured as a graph.
The algorithm is that of `tinygan.fast`. What differs is what a card is good and bad at: it multiplies large
matrices at great speed, moves memory fast, and loses time with every small call."""
