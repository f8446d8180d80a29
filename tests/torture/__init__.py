"""What is promised when things break, put to the test: kills, power cuts, signals, damaged files, long runs.

The suite runs short versions; ``python -m tests.torture`` runs the long ones and writes their figures.
"""
