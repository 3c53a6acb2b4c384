"""All rows of one build of a read model of the catalogue, in memory: kept current change by change."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import orjson

from projections.base import read_row
from projections.queries import ResultRow
from projections.symbols import SymbolRow
from projections.universes import UniverseRow
from readapi.catalogue.rendering import symbol_summary

Row = TypeVar("Row")

_numbers = count()


class CatalogueReplica(Generic[Row]):
    """Rows by their keys. Not for more than one thread."""

    row: ClassVar[type[Any]]

    def __init__(self) -> None:
        self.rows: dict[str, ResultRow[Row]] = {}
        self._number = next(_numbers)
        self._version = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __bool__(self) -> bool:
        return True

    @property
    def state(self) -> Hashable:
        """What all answers are from: as long as it is equal, so are they."""
        return self._number, self._version

    def put(self, log: str, rows: Sequence[tuple[str, bytes | None]]) -> None:
        """What became of some rows of a log: their documents, None where a row is gone."""
        before = self._version
        for key, document in rows:
            self._version += 1
            if document is None:
                self.rows.pop(key, None)
            else:
                stored = read_row(self.row, document)
                self.rows[key] = ResultRow(stored.row, log, stored.position)
        if self._version != before:
            self._forget_what_is_derived()

    def _forget_what_is_derived(self) -> None:
        for name in [name for name in self.__dict__ if isinstance(getattr(type(self), name, None), cached_property)]:
            del self.__dict__[name]

    def prepare(self, now: float) -> None:
        """Make what the first questions would else have to make."""

    def get(self, key: str) -> ResultRow[Row] | None:
        """One row."""
        return self.rows.get(key)


class UnloadedReplica:
    """Stands in for a table that is being loaded, or that would be too large."""

    state: Hashable = None


class SymbolStatistics(NamedTuple):
    """How many symbols are known, are traded, and of these have each market and sector, the most frequent first."""

    total: int
    active: int
    by_market: Mapping[str, int]
    by_sector: Mapping[str, int]


class _Listed(NamedTuple):
    """A symbol that is traded, as it is searched and as it is shown."""

    symbol: str
    name: str
    """In small letters."""
    market: str | None
    shown: bytes


class SymbolReplica(CatalogueReplica[SymbolRow]):
    """The catalogue's symbols."""

    row = SymbolRow

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[str, _Listed] = {}

    def search(self, text: str, market: str | None, limit: int) -> list[bytes]:
        """Symbols that are traded, as JSON, by their names or by the symbol.

        First comes the symbol that is ``text``, then those whose symbol begins with it, then those with a word in their
        name that begins with it, then those that have it anywhere; of each kind by symbol. Capitals and small letters
        are the same.
        """
        listed = self._listed if market is None else [one for one in self._listed if one.market == market]
        if text:
            listed = _ranked(listed, text)
        return [one.shown for one in listed[:limit]]

    def prepare(self, now: float) -> None:
        """As CatalogueReplica."""
        del now
        assert self._listed is not None

    def put(self, log: str, rows: Sequence[tuple[str, bytes | None]]) -> None:
        """As CatalogueReplica."""
        super().put(log, rows)
        for key, _ in rows:
            self._made.pop(key, None)

    @cached_property
    def _listed(self) -> list[_Listed]:
        return [self._made.get(symbol) or self._make(symbol) for symbol in sorted(self.rows) if self._is_active(symbol)]

    def _is_active(self, symbol: str) -> bool:
        return self.rows[symbol].row.active

    def _make(self, symbol: str) -> _Listed:
        row = self.rows[symbol].row
        # A copy, for what the encoder returns occupies some kilobytes however short it is.
        shown = bytes(memoryview(orjson.dumps(symbol_summary(row))))
        made = self._made[symbol] = _Listed(symbol, (row.name or "").lower(), row.market, shown)
        return made

    @cached_property
    def sectors(self) -> Mapping[str, frozenset[str]]:
        """Sector -> the symbols that are traded in it."""
        sectors: dict[str, set[str]] = {}
        for row, _, _ in self.rows.values():
            if row.active and row.sector is not None:
                sectors.setdefault(row.sector, set()).add(row.symbol)
        return {name: frozenset(symbols) for name, symbols in sorted(sectors.items())}

    @cached_property
    def statistics(self) -> SymbolStatistics:
        """They counted."""
        active = [found.row for found in self.rows.values() if found.row.active]
        by_market = Counter(row.market for row in active if row.market is not None)
        by_sector = {sector: len(symbols) for sector, symbols in self.sectors.items()}
        return SymbolStatistics(
            len(self.rows), len(active), dict(by_market.most_common()), dict(Counter(by_sector).most_common())
        )


def _ranked(listed: Iterable[_Listed], text: str) -> list[_Listed]:
    capitals, small = text.upper(), text.lower()
    ranks: tuple[list[_Listed], ...] = ([], [], [], [])
    for one in listed:
        if one.symbol.startswith(capitals):
            ranks[0 if one.symbol == capitals else 1].append(one)
        elif small in one.name:
            ranks[2 if one.name.startswith(small) or f" {small}" in one.name else 3].append(one)
        elif capitals in one.symbol:
            ranks[3].append(one)
    return [one for rank in ranks for one in rank]


class UniverseReplica(CatalogueReplica[UniverseRow]):
    """The catalogue's universes."""

    row = UniverseRow

    @cached_property
    def members(self) -> Mapping[str, frozenset[str]]:
        """Key -> its symbols, in order of the keys."""
        return {key: frozenset(self.rows[key].row.symbols) for key in sorted(self.rows)}
