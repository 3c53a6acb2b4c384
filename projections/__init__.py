"""Projections: the read models, the engine that folds events into rows, and the ports of the engine. No I/O."""

import domain

TICKVIEW_PACKAGE = True
"""Distinguishes this package from another package named ``projections``."""

if not getattr(domain, "TICKVIEW_PACKAGE", False):
    raise ImportError(
        f"TickView needs its own package 'domain', but {domain.__file__ or domain.__path__[0]} was imported. "
        "Rename that package, or run TickView in an environment of its own."
    )
