"""The registry of projections: current projections, and former versions that keep previous builds current."""

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
"""Every current projection by the name of its read model."""

FORMER: tuple[Projection[Any, Any], ...] = ()
"""Projections of earlier versions. Workers keep builds of these versions current, so that a rollback stays possible."""


def projection_of(projections: Iterable[Projection[Any, Any]], name: str, version: int) -> Projection[Any, Any] | None:
    """Return the projection that folds this version of a read model, or None."""
    for projection in projections:
        if (projection.name, projection.version) == (name, version):
            return projection
    return None
