"""Damaged and hostile files: for any content, a reader returns a result or fails with a `TinyganError`."""
