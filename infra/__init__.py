"""The infrastructure: Redis, PostgreSQL, processes, settings, command line, and the composition of all parts."""

import readapi

TICKVIEW_PACKAGE = True
"""Distinguishes this package from another package named ``infra``."""

if not getattr(readapi, "TICKVIEW_PACKAGE", False):
    raise ImportError(
        f"TickView needs its own package 'readapi', but {readapi.__file__ or readapi.__path__[0]} was imported. "
        "Rename that package, or run TickView in an environment of its own."
    )
