"""One training on disk. Nothing is imported here: commands load Pillow or imageio when they need them."""
