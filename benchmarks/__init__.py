"""The figures of the README, each measured by a file of its own; `python -m benchmarks` runs them."""
