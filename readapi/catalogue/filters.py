"""Filters by sector and universe: the catalogue resolves them to sets of symbols."""

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import NamedTuple

from falcon.asgi import Request

from projections.queries import ALWAYS, ResultRow, RowQueries
from projections.symbols import SymbolRow
from projections.universes import UniverseRow
from readapi.catalogue.derived import Derived
from readapi.catalogue.symbol_index import SymbolIndex, symbols_of_patterns
from readapi.http.problems import FieldError, invalid
from readapi.http.read_model import ReadModel
from readapi.ports.read_models import LiveRows
from readapi.read_models.hints import unknown_value


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
        self, symbols: ReadModel[RowQueries[SymbolRow]], universes: ReadModel[RowQueries[UniverseRow]]
    ) -> None:
        self.symbols = symbols
        self.universes = universes
        self._symbol_index = Derived(SymbolIndex)
        self._members = Derived(_members)

    @property
    def state(self) -> Hashable:
        """The state of the catalogue. As long as it is equal, names resolve to the same symbols."""
        return self.symbols.live.queries.state(ALWAYS), self.universes.live.queries.state(ALWAYS)

    def symbol_index(self, live: LiveRows[SymbolRow]) -> SymbolIndex:
        """Return the index of the listed symbols of a build. Raises UnavailableError if it is not loaded yet."""
        return self._symbol_index.of(live)

    @property
    def _sectors(self) -> Mapping[str, frozenset[str]]:
        return self.symbol_index(self.symbols.live).sectors

    @property
    def _universes(self) -> Mapping[str, frozenset[str]]:
        return self._members.of(self.universes.live)

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
            *_unknown("sectors", "sector", names.sectors, self._sectors if names.sectors else ()),
            *_unknown("universe", "universe", names.universes, self._universes if names.universes else ()),
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
            symbols = _intersection(symbols, _union(self._sectors, names.sectors))
        if names.universes is not None:
            symbols = _intersection(symbols, _union(self._universes, names.universes))
        return symbols


def _members(rows: Iterable[ResultRow[UniverseRow]]) -> Mapping[str, frozenset[str]]:
    return {result.key: symbols_of_patterns(result.row.symbols) for result in rows}


def _union(sets: Mapping[str, frozenset[str]], names: Iterable[str]) -> frozenset[str]:
    """Join the symbols of the named sets. A single set is returned itself, because it caches its hash."""
    named = [sets[name] for name in names if name in sets]
    return named[0] if len(named) == 1 else frozenset().union(*named)


def _intersection(symbols: frozenset[str] | None, others: frozenset[str]) -> frozenset[str]:
    return others if symbols is None else symbols & others


def _unknown(field: str, kind: str, names: frozenset[str] | None, known: Collection[str]) -> list[FieldError]:
    return [unknown_value(field, kind, name, known) for name in sorted(names or ()) if name not in known]
