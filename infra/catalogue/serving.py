"""The catalogue in an API process: both of its read models, followed into memory."""

from collections.abc import Callable, Sequence
from typing import Any

from infra.live_builds import FollowedReadModel
from infra.replicas import ReplicatedTable
from projections.symbols import Symbols
from projections.universes import Universes
from readapi.catalogue.meaning import Catalogue
from readapi.catalogue.tables import SymbolTable, UniverseTable
from readapi.ports import Freshness
from readapi.read_model import ReadModel


def followed_catalogue(
    logs: Sequence[str], wait_seconds: float, freshness: Freshness, moved: Callable[[], None]
) -> tuple[Catalogue, list[FollowedReadModel[Any]]]:
    """The catalogue, and what a Follower must follow for it; ``moved`` is called when it may have changed."""
    symbols = ReplicatedTable(Symbols(), logs, SymbolTable, moved)
    universes = ReplicatedTable(Universes(), logs, UniverseTable, moved)
    catalogue = Catalogue(
        ReadModel(symbols.name, symbols, wait_seconds, freshness),
        ReadModel(universes.name, universes, wait_seconds, freshness),
    )
    return catalogue, [symbols, universes]
