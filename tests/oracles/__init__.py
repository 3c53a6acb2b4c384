"""Naive second implementations. Tests compare the product with them."""
