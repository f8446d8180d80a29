"""The fast engine on graphics cards, through CuPy: a whole training step, captured as a CUDA graph.
The algorithm is that of `tinygan.fast`, adapted to a card's strengths: it multiplies large matrices very
fast and moves memory fast, but loses time with every small call."""
