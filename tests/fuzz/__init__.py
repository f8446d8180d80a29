"""Damaged and hostile files: whatever is in them, a reader gives a result or one `TinyganError`."""
