"""A run on disk. This file imports nothing: each command loads Pillow or imageio only when it needs them."""
