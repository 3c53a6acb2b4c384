"""In-memory replicas of the catalogue's read models: all rows of one build, kept current change by change.

The catalogue is small (about 10,000 rows), so that each API process holds all of it and answers without I/O.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import orjson

from projections.queries import ResultRow, read_result
from projections.symbols import SymbolRow
from projections.universes import UniverseRow
from readapi.catalogue.rendering import symbol_summary

Row = TypeVar("Row")

_replica_numbers = count()
"""Numbers that tell the replicas of this process apart."""


class CatalogueReplica(Generic[Row]):
    """All rows of one build of a read model, by key.

    Values derived from all rows are cached properties of the subclasses. A change discards them, and the next read
    computes them anew. A replica is not safe for use in several threads.
    """

    row: ClassVar[type[Any]]
    """Type of the rows."""

    def __init__(self) -> None:
        self.rows: dict[str, ResultRow[Row]] = {}
        self._number = next(_replica_numbers)
        self._version = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __bool__(self) -> bool:
        """Return True, because a replica without rows is loaded too."""
        return True

    @property
    def state(self) -> Hashable:
        """The state of the replica. As long as it is equal, all answers are equal."""
        return self._number, self._version

    def put(self, log: str, rows: Sequence[tuple[str, bytes | None]]) -> None:
        """Apply changes of rows.

        Args:
            log: The log of the changes.
            rows: Keys and new documents. The document of a removed row is None.
        """
        before = self._version
        for key, document in rows:
            self._version += 1
            if document is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = read_result(self.row, log, document)
        if self._version != before:
            self._discard_derived_values()

    def _discard_derived_values(self) -> None:
        for name in [name for name in self.__dict__ if isinstance(getattr(type(self), name, None), cached_property)]:
            del self.__dict__[name]

    def prepare(self, now: float) -> None:
        """Compute derived values in advance, so that the first queries are fast. ``now`` is in epoch seconds."""

    def get(self, key: str) -> ResultRow[Row] | None:
        """Return one row. None if there is no such row."""
        return self.rows.get(key)


class UnloadedReplica:
    """The placeholder for a replica that is being loaded, or that is too large to be loaded."""

    state: Hashable = None


class SymbolStatistics(NamedTuple):
    """Numbers of symbols: known, listed, and listed by market and by sector, the most frequent name first."""

    total: int
    active: int
    by_market: Mapping[str, int]
    by_sector: Mapping[str, int]


class _SearchEntry(NamedTuple):
    """A listed symbol, with the texts to search and its encoded document."""

    symbol: str
    lower_name: str
    market: str | None
    document: bytes


class SymbolReplica(CatalogueReplica[SymbolRow]):
    """The replica of the symbols.

    The documents of listed symbols are encoded once and reused until their row changes. A search compares every listed
    symbol with the text, which takes a few milliseconds for 10,000 symbols.
    """

    row = SymbolRow

    def __init__(self) -> None:
        super().__init__()
        self._entries: dict[str, _SearchEntry] = {}
        """Symbol -> its entry. An entry is made on first use."""

    def search(self, text: str, market: str | None, limit: int) -> list[bytes]:
        """Search the listed symbols by symbol and name, regardless of case.

        Args:
            text: Part of the symbol or name. An empty text matches every symbol.
            market: Market of the symbols. None for all markets.
            limit: Highest number of results.

        Returns:
            Documents as JSON. First the symbol that equals the text, then symbols that begin with it, then symbols
            whose name has a word that begins with it, then all other matches. Each group is ordered by symbol.
        """
        entries = self._listed if market is None else [entry for entry in self._listed if entry.market == market]
        if text:
            entries = _ranked(entries, text)
        return [entry.document for entry in entries[:limit]]

    def prepare(self, now: float) -> None:
        """Make the entries of all listed symbols."""
        del now
        _ = self._listed  # The cached property makes the entries.

    def put(self, log: str, rows: Sequence[tuple[str, bytes | None]]) -> None:
        """Apply changes of rows, as in the base class."""
        super().put(log, rows)
        for key, _ in rows:
            self._entries.pop(key, None)

    @cached_property
    def _listed(self) -> list[_SearchEntry]:
        """The entries of all listed symbols, ordered by symbol."""
        listed = [symbol for symbol in sorted(self.rows) if self.rows[symbol].row.active]
        return [self._entries.get(symbol) or self._make_entry(symbol) for symbol in listed]

    def _make_entry(self, symbol: str) -> _SearchEntry:
        row = self.rows[symbol].row
        # The encoder's result occupies some kilobytes however short it is. A copy occupies only its length.
        document = bytes(memoryview(orjson.dumps(symbol_summary(row))))
        entry = self._entries[symbol] = _SearchEntry(symbol, (row.name or "").lower(), row.market, document)
        return entry

    @cached_property
    def sectors(self) -> Mapping[str, frozenset[str]]:
        """Sector -> its listed symbols, ordered by sector."""
        sectors: dict[str, set[str]] = {}
        for row, _, _ in self.rows.values():
            if row.active and row.sector is not None:
                sectors.setdefault(row.sector, set()).add(row.symbol)
        return {name: frozenset(symbols) for name, symbols in sorted(sectors.items())}

    @cached_property
    def statistics(self) -> SymbolStatistics:
        """Numbers of symbols."""
        active = [result.row for result in self.rows.values() if result.row.active]
        by_market = Counter(row.market for row in active if row.market is not None)
        by_sector = Counter({sector: len(symbols) for sector, symbols in self.sectors.items()})
        return SymbolStatistics(
            len(self.rows), len(active), dict(by_market.most_common()), dict(by_sector.most_common())
        )


def _ranked(entries: Iterable[_SearchEntry], text: str) -> list[_SearchEntry]:
    """Select the entries that contain the text, the best matches first."""
    upper, lower = text.upper(), text.lower()
    ranks: tuple[list[_SearchEntry], ...] = ([], [], [], [])
    for entry in entries:
        if entry.symbol.startswith(upper):
            ranks[0 if entry.symbol == upper else 1].append(entry)
        elif lower in entry.lower_name:
            starts_word = entry.lower_name.startswith(lower) or f" {lower}" in entry.lower_name
            ranks[2 if starts_word else 3].append(entry)
        elif upper in entry.symbol:
            ranks[3].append(entry)
    return [entry for rank in ranks for entry in rank]


class UniverseReplica(CatalogueReplica[UniverseRow]):
    """The replica of the universes."""

    row = UniverseRow

    @cached_property
    def members(self) -> Mapping[str, frozenset[str]]:
        """Key of a universe -> its symbols, ordered by key."""
        return {key: frozenset(self.rows[key].row.symbols) for key in sorted(self.rows)}
