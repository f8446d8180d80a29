"""Tests of what tinygan promises when things break: kills, power cuts, signals, damaged files, long runs.

The suite runs short versions; ``python -m tests.torture`` runs the long ones and writes their figures.
"""
