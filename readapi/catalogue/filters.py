"""What the catalogue's filters mean: sets of symbols, as the catalogue is now."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from falcon.asgi import Request

from readapi.catalogue.replicas import SymbolReplica, UniverseReplica, UnloadedReplica
from readapi.http.problems import FieldError, invalid
from readapi.http.read_model import ReadModel
from readapi.ports.errors import UnavailableError
from readapi.ports.read_models import LiveBuild

FEW_NAMES = 30
"""So many names are told to who asked for one that is not there."""

T = TypeVar("T")


class CatalogueNames(NamedTuple):
    """Sectors and universes that were asked for; None where no such filter was given."""

    sectors: frozenset[str] | None = None
    universes: frozenset[str] | None = None

    def __bool__(self) -> bool:
        return self != (None, None)


NO_NAMES = CatalogueNames()


class Catalogue:
    """The symbols and universes as they are now."""

    def __init__(
        self,
        symbols: ReadModel[SymbolReplica | UnloadedReplica],
        universes: ReadModel[UniverseReplica | UnloadedReplica],
    ) -> None:
        self.symbols = symbols
        self.universes = universes

    @property
    def state(self) -> Hashable:
        """What every meaning is from: as long as it is equal, so are they."""
        return self.symbols.live.queries.state, self.universes.live.queries.state

    async def reach(self, req: Request) -> None:
        """Wait for the position that the client asks for. Raises Problem (400, 504)."""
        await self.symbols.wait_for_position(req)
        await self.universes.wait_for_position(req)

    def check(self, names: CatalogueNames) -> None:
        """See that there are such sectors and universes. Raises Problem (400), UnavailableError."""
        if not names:
            return
        errors = [
            *_unknown("sectors", "sector", names.sectors, lambda: loaded(self.symbols.live).sectors),
            *_unknown("universe", "universe", names.universes, lambda: loaded(self.universes.live).members),
        ]
        if errors:
            raise invalid(errors)

    def among(self, symbols: frozenset[str] | None, names: CatalogueNames) -> frozenset[str] | None:
        """Those of the symbols (None: of all) that are in one of the sectors and in one of the universes.

        What there is no longer has no symbols. Raises UnavailableError.
        """
        if names.sectors is not None:
            symbols = _common(symbols, _union(loaded(self.symbols.live).sectors, names.sectors))
        if names.universes is not None:
            symbols = _common(symbols, _union(loaded(self.universes.live).members, names.universes))
        return symbols


def loaded(live: LiveBuild[T | UnloadedReplica]) -> T:
    """What answers. Raises UnavailableError while nothing does."""
    if isinstance(live.queries, UnloadedReplica):
        raise UnavailableError("the catalogue is being loaded; try again")
    return live.queries


def _union(sets: Mapping[str, frozenset[str]], names: Iterable[str]) -> frozenset[str]:
    """The symbols of all of these; of one, the very set that is held, so that it is hashed but once."""
    found = [sets[name] for name in names if name in sets]
    return found[0] if len(found) == 1 else frozenset().union(*found)


def _common(one: frozenset[str] | None, other: frozenset[str]) -> frozenset[str]:
    return other if one is None else one & other


def _unknown(
    field: str, what: str, names: frozenset[str] | None, sets: Callable[[], Mapping[str, object]]
) -> Iterator[FieldError]:
    if names is None:
        return
    known = sets()
    for name in sorted(names - known.keys()):
        told = ", ".join(known) if len(known) <= FEW_NAMES else f"{len(known)} others"
        yield {"field": field, "reason": f"names {name!r}, and there is no such {what}; known: {told or 'none'}"}
