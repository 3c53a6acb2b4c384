"""Soak: a steady load for minutes, during which nothing may grow without a bound."""
