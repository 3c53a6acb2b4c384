"""Documents of symbols and universes."""

from typing_extensions import TypedDict

from projections.queries import ResultRow
from projections.symbols import SymbolRow
from projections.universes import UniverseRow
from readapi.ports.read_models import provenance


class SymbolSummary(TypedDict):
    """A symbol in a list. Unknown values are null. ``market_cap`` is in the currency of the symbol's market."""

    symbol: str
    name: str | None
    exchange: str | None
    market: str | None
    type: str | None
    sector: str | None
    industry: str | None
    market_cap: float | None


class SymbolDetails(SymbolSummary):
    """A symbol with its provenance.

    ``active`` tells whether the symbol is listed. Times are epoch seconds. ``position`` is the log and position of the
    event that last changed the symbol (``market-0=17``).
    """

    active: bool
    listed_at: float
    updated_at: float
    event_id: str
    position: str


class UniverseSummary(TypedDict):
    """A universe in a list, with its number of symbols."""

    key: str
    name: str | None
    description: str | None
    symbol_count: int


class UniverseDetails(TypedDict):
    """A universe with its symbols and its provenance.

    ``updated_at`` is in epoch seconds. ``position`` is the log and position of the last event of the universe.
    """

    key: str
    name: str | None
    description: str | None
    symbols: list[str]
    updated_at: float
    event_id: str
    position: str


def symbol_summary(row: SymbolRow) -> SymbolSummary:
    """Return the document of a symbol in a list."""
    return {
        "symbol": row.symbol,
        "name": row.name,
        "exchange": row.exchange,
        "market": row.market,
        "type": row.type,
        "sector": row.sector,
        "industry": row.industry,
        "market_cap": row.market_cap,
    }


def symbol_details(result: ResultRow[SymbolRow]) -> SymbolDetails:
    """Return the document of a single symbol."""
    row = result.row
    return {
        **symbol_summary(row),
        "active": row.active,
        "listed_at": row.listed_at,
        "updated_at": row.updated_at,
        "event_id": row.event_id,
        "position": provenance(result),
    }


def universe_summary(row: UniverseRow) -> UniverseSummary:
    """Return the document of a universe in a list."""
    return {
        "key": row.key,
        "name": row.name,
        "description": row.description,
        "symbol_count": len(row.symbols),
    }


def universe_details(result: ResultRow[UniverseRow]) -> UniverseDetails:
    """Return the document of a single universe."""
    row = result.row
    return {
        "key": row.key,
        "name": row.name,
        "description": row.description,
        "symbols": row.symbols,
        "updated_at": row.updated_at,
        "event_id": row.event_id,
        "position": provenance(result),
    }
