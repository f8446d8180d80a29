"""Side-by-side measurements of tinygan and other engines; ``python -m benchmarks`` runs them."""
