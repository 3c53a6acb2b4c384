"""The demo producer: a process that replays real daily bars and announces patterns and backtests."""

MIN_SPEED, MAX_SPEED = 0.01, 100.0
"""Bounds of the speed of the producer, in trading days per second and symbol."""
