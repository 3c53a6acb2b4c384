"""The catalogue in an API process: both of its read models, followed into memory."""

from collections.abc import Callable, Sequence
from typing import Any

from infra.catalogue.parsing import MOST_SYMBOLS
from infra.serving.follower import FollowedReadModel
from infra.serving.replicas import Held, ReplicatedReadModel
from projections.base import Projection
from projections.queries import Positions
from projections.symbols import Symbols
from projections.universes import Universes
from projections.versions import Build
from readapi.catalogue.filters import Catalogue
from readapi.catalogue.replicas import SymbolReplica, UniverseReplica, UnloadedReplica
from readapi.http.read_model import ReadModel
from readapi.ports.read_models import Freshness


class ReplicatedCatalogueModel(ReplicatedReadModel[UnloadedReplica, Held]):
    """The live build of a read model of the catalogue, which nothing answers before it is loaded.

    Once it is known that there is no build yet, an empty table answers. ``moved`` is called whenever something may have
    changed.
    """

    def __init__(
        self, projection: Projection[Any, Any], logs: Sequence[str], make: Callable[[], Held], moved: Callable[[], None]
    ) -> None:
        super().__init__(projection.name, projection.version, logs, lambda _: UnloadedReplica(), make, MOST_SYMBOLS)
        self._has_moved = moved

    def move(self, build: Build, positions: Positions, queries: UnloadedReplica | Held | None = None) -> None:
        """As FollowedReadModel."""
        super().move(build, positions, queries)
        self._has_moved()

    def wait_for_build(self) -> None:
        """As FollowedReadModel."""
        build, queries, positions = self.current.build, self.current.queries, self.current.positions
        if build.number == 0 and isinstance(queries, UnloadedReplica):
            self.move(build, positions, self._make())


def followed_catalogue(
    logs: Sequence[str], wait_seconds: float, freshness: Freshness, moved: Callable[[], None]
) -> tuple[Catalogue, list[FollowedReadModel[Any]]]:
    """The catalogue, and what a Follower must follow for it; ``moved`` is called when it may have changed."""
    symbols = ReplicatedCatalogueModel(Symbols(), logs, SymbolReplica, moved)
    universes = ReplicatedCatalogueModel(Universes(), logs, UniverseReplica, moved)
    catalogue = Catalogue(
        ReadModel(symbols.name, symbols, wait_seconds, freshness),
        ReadModel(universes.name, universes, wait_seconds, freshness),
    )
    return catalogue, [symbols, universes]
