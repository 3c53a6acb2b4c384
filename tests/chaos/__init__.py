"""Chaos: producers, faults of every part, and an oracle that shares no code with the product."""
