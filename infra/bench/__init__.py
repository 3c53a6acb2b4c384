"""Benchmarks: TickView beside the limit, in one run on one machine, on servers of their own."""
