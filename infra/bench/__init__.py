"""Benchmarks: measurements of TickView and of their limits, in one run, on servers started for the run."""
