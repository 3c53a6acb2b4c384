"""What happened and what may happen: events, wire formats, streams. No I/O."""

TICKVIEW_PACKAGE = True
"""Distinguishes this package from another package named ``domain``."""
