"""The domain model: events, streams, wire formats and the workspace aggregate. This package performs no I/O."""

TICKVIEW_PACKAGE = True
"""Distinguishes this package from another package named ``domain``."""
