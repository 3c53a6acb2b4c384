"""Filters by sector and universe: the catalogue resolves them to sets of symbols."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from falcon.asgi import Request

from readapi.catalogue.replicas import SymbolReplica, UniverseReplica, UnloadedReplica
from readapi.http.problems import FieldError, invalid
from readapi.http.read_model import ReadModel
from readapi.ports.errors import UnavailableError
from readapi.ports.read_models import LiveBuild

MAX_SUGGESTED_NAMES = 30
"""Highest number of known names that a refusal lists. If there are more, it gives their number."""

Replica = TypeVar("Replica")


class CatalogueNames(NamedTuple):
    """Names of sectors and keys of universes in a request. None where the request has no such filter."""

    sectors: frozenset[str] | None = None
    universes: frozenset[str] | None = None

    def __bool__(self) -> bool:
        return self != (None, None)


NO_NAMES = CatalogueNames()
"""The names of a request without a filter by sector or universe."""


class Catalogue:
    """The current symbols and universes."""

    def __init__(
        self,
        symbols: ReadModel[SymbolReplica | UnloadedReplica],
        universes: ReadModel[UniverseReplica | UnloadedReplica],
    ) -> None:
        self.symbols = symbols
        self.universes = universes

    @property
    def state(self) -> Hashable:
        """The state of the catalogue. As long as it is equal, names resolve to the same symbols."""
        return self.symbols.live.queries.state, self.universes.live.queries.state

    async def wait_for_position(self, req: Request) -> None:
        """Wait for the position that the request requires. Raises Problem (400, 504)."""
        await self.symbols.wait_for_position(req)
        await self.universes.wait_for_position(req)

    def check(self, names: CatalogueNames) -> None:
        """Check that the sectors and universes exist.

        Raises:
            Problem: 400, a sector or universe does not exist.
            UnavailableError: The catalogue is not loaded yet.
        """
        if not names:
            return
        errors = [
            *_unknown("sectors", "sector", names.sectors, lambda: loaded(self.symbols.live).sectors),
            *_unknown("universe", "universe", names.universes, lambda: loaded(self.universes.live).members),
        ]
        if errors:
            raise invalid(errors)

    def restrict(self, symbols: frozenset[str] | None, names: CatalogueNames) -> frozenset[str] | None:
        """Restrict symbols to the symbols that are in one of the sectors and in one of the universes.

        A sector or universe that no longer exists has no symbols.

        Args:
            symbols: The symbols. None for all symbols.
            names: The sectors and universes.

        Raises:
            UnavailableError: The catalogue is not loaded yet.
        """
        if names.sectors is not None:
            symbols = _intersection(symbols, _union(loaded(self.symbols.live).sectors, names.sectors))
        if names.universes is not None:
            symbols = _intersection(symbols, _union(loaded(self.universes.live).members, names.universes))
        return symbols


def loaded(live: LiveBuild[Replica | UnloadedReplica]) -> Replica:
    """Return the replica of a build. Raises UnavailableError if it is not loaded yet."""
    if isinstance(live.queries, UnloadedReplica):
        raise UnavailableError("the catalogue is being loaded; try again")
    return live.queries


def _union(sets: Mapping[str, frozenset[str]], names: Iterable[str]) -> frozenset[str]:
    """Join the symbols of the named sets. A single set is returned itself, because it caches its hash."""
    named = [sets[name] for name in names if name in sets]
    return named[0] if len(named) == 1 else frozenset().union(*named)


def _intersection(symbols: frozenset[str] | None, others: frozenset[str]) -> frozenset[str]:
    return others if symbols is None else symbols & others


def _unknown(
    field: str, kind: str, names: frozenset[str] | None, sets: Callable[[], Mapping[str, object]]
) -> Iterator[FieldError]:
    if names is None:
        return
    known = sets()
    for name in sorted(names - known.keys()):
        suggestions = ", ".join(known) if len(known) <= MAX_SUGGESTED_NAMES else f"{len(known)} others"
        yield {
            "field": field,
            "reason": f"names {name!r}, and there is no such {kind}; known: {suggestions or 'none'}",
        }
