"""Tests of TickView as real processes."""
