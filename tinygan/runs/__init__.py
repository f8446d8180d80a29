"""One training on disk.

Nothing is imported here: a command loads Pillow or imageio only when it needs them."""
