"""Benchmarks of tinygan and other engines, side by side; ``python -m benchmarks`` runs the main one."""
