"""Naive second implementations, in separate code, that the real ones are held to."""
