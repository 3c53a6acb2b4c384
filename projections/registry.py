"""The read models there are, and the former projections that keep previous builds current."""

from collections.abc import Iterable
from typing import Any

from projections.activity import Activity
from projections.backtests import Backtests
from projections.base import Projection
from projections.patterns import ActivePatterns
from projections.producers import Producers
from projections.symbols import Symbols
from projections.universes import Universes
from projections.workspaces import Workspaces

READ_MODELS: dict[str, Projection[Any, Any]] = {
    projection.name: projection
    for projection in (ActivePatterns(), Backtests(), Activity(), Producers(), Symbols(), Universes(), Workspaces())
}
"""Every projection by its name."""

FORMER: tuple[Projection[Any, Any], ...] = ()
"""Projections of earlier versions: as long as one is here, builds of its version are folded on, for a way back."""


def projection_of(projections: Iterable[Projection[Any, Any]], name: str, version: int) -> Projection[Any, Any] | None:
    """The one of the projections that folds this version of a read model; None if none does."""
    for projection in projections:
        if (projection.name, projection.version) == (name, version):
            return projection
    return None
