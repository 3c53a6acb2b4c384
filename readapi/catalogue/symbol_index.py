"""The index of the listed symbols: search by symbol and name, sectors, and numbers of symbols."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from domain.symbols import fold_symbol
from projections.patterns import ActivePatterns
from projections.queries import ResultRow
from projections.symbols import SymbolRow


class SymbolStatistics(NamedTuple):
    """Numbers of symbols: known, listed, and listed by market and by sector, the most frequent name first."""

    total: int
    active: int
    by_market: Mapping[str, int]
    by_sector: Mapping[str, int]


class _Entry(NamedTuple):
    """A listed symbol with the texts to search."""

    symbol: str
    folded: str
    lower_name: str
    market: str | None


class SymbolIndex:
    """The listed symbols of the catalogue.

    A search compares every listed symbol with the text, which takes a few milliseconds for 10,000 symbols.

    Args:
        rows: All rows of ``symbols``, in the order of their keys.
    """

    def __init__(self, rows: Iterable[ResultRow[SymbolRow]]) -> None:
        symbols = [result.row for result in rows]
        listed = [row for row in symbols if row.active]
        self._entries = [
            _Entry(row.symbol, fold_symbol(row.symbol), (row.name or "").lower(), row.market) for row in listed
        ]
        self._spellings: dict[str, list[str]] = {}
        for row in symbols:
            self._spellings.setdefault(fold_symbol(row.symbol), []).append(row.symbol)
        sectors: dict[str, set[str]] = {}
        for row in listed:
            if row.sector is not None:
                sectors.setdefault(row.sector, set()).add(row.symbol)
        self.sectors = {name: symbols_of_patterns(sectors[name]) for name in sorted(sectors)}
        """Sector -> its listed symbols, ordered by sector."""
        self.statistics = SymbolStatistics(
            len(symbols),
            len(listed),
            dict(Counter(row.market for row in listed if row.market is not None).most_common()),
            dict(Counter(row.sector for row in listed if row.sector is not None).most_common()),
        )
        """Numbers of symbols."""

    def search(self, text: str, market: str | None) -> Sequence[str]:
        """Search the listed symbols by symbol and name, regardless of case.

        Args:
            text: Part of the symbol or name. An empty text matches every symbol.
            market: Market of the symbols. None for all markets.

        Returns:
            First the symbol that equals the text, then symbols that begin with it, then symbols whose name has a word
            that begins with it, then all other matches. Each group is ordered by symbol.
        """
        entries = self._entries if market is None else [entry for entry in self._entries if entry.market == market]
        return [entry.symbol for entry in (_ranked(entries, text) if text else entries)]

    def spellings(self, symbol: str) -> Sequence[str]:
        """Return the symbols of the catalogue, listed or not, that equal a symbol except for case, in order."""
        return self._spellings.get(fold_symbol(symbol), ())


def symbols_of_patterns(symbols: Iterable[str]) -> frozenset[str]:
    """Return symbols of the catalogue as a filter of patterns compares them."""
    return frozenset(map(ActivePatterns.columns["symbol"].group, symbols))


def _ranked(entries: Iterable[_Entry], text: str) -> list[_Entry]:
    """Select the entries that contain the text, the best matches first."""
    folded, lower = fold_symbol(text), text.lower()
    ranks: tuple[list[_Entry], ...] = ([], [], [], [])
    for entry in entries:
        if entry.folded.startswith(folded):
            ranks[0 if entry.folded == folded else 1].append(entry)
        elif lower in entry.lower_name:
            starts_word = entry.lower_name.startswith(lower) or f" {lower}" in entry.lower_name
            ranks[2 if starts_word else 3].append(entry)
        elif folded in entry.folded:
            ranks[3].append(entry)
    return [entry for rank in ranks for entry in rank]
