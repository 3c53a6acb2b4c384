"""A catalogue in memory with given symbols and universes, as an API process holds it."""

from collections.abc import Mapping, Sequence

from infra.serving.live_read_model import LiveReadModel
from projections.base import encode_row
from projections.symbols import SymbolRow, Symbols
from projections.universes import UniverseRow, Universes
from readapi.catalogue.filters import Catalogue
from readapi.http.read_model import ReadModel
from readapi.replica.replica import Replica

LOGS = ("market-0",)


def symbol_row(ticker: str, **details: object) -> SymbolRow:
    """Build the row of a symbol."""
    return SymbolRow(ticker, 1.0, 1.0, **details)  # type: ignore[arg-type]


class CatalogueFixture:
    """The replicas of symbols and universes, and the catalogue that reads them."""

    def __init__(self, symbols: Sequence[SymbolRow] = (), universes: Mapping[str, Sequence[str]] | None = None) -> None:
        self.symbols, self.universes = Replica(Symbols()), Replica(Universes())
        self.put_symbols(*symbols)
        for key, members in (universes or {}).items():
            self.put_universe(key, *members)
        self.live_symbols = LiveReadModel(Symbols(), LOGS, lambda _build, _logs: self.symbols)
        live_universes = LiveReadModel(Universes(), LOGS, lambda _build, _logs: self.universes)
        self.catalogue = Catalogue(
            ReadModel(Symbols(), self.live_symbols, 0), ReadModel(Universes(), live_universes, 0)
        )

    def put_symbols(self, *rows: SymbolRow) -> None:
        """Put rows into the replica of symbols."""
        self.symbols.put(LOGS[0], [(row.symbol, encode_row(row, 1)) for row in rows])

    def put_universe(self, key: str, *members: str) -> None:
        """Put one universe into the replica of universes."""
        row = UniverseRow(key, 1.0, 1.0, symbols=list(members))
        self.universes.put(LOGS[0], [(key, encode_row(row, 1))])
