"""Symbols and universes as they are shown."""

from typing_extensions import TypedDict

from projections.queries import ResultRow
from projections.symbols import SymbolRow
from projections.universes import UniverseRow
from readapi.ports.read_models import provenance


class SymbolSummary(TypedDict):
    """A symbol of the catalogue; ``market_cap`` is in the currency of its market. What is not known is null."""

    symbol: str
    name: str | None
    exchange: str | None
    market: str | None
    type: str | None
    sector: str | None
    industry: str | None
    market_cap: float | None


class SymbolDetails(SymbolSummary):
    """A symbol, whether it is traded or not. Times are epoch seconds; ``position`` is where the event stands that last
    changed it (``market-0=17``).
    """

    active: bool
    listed_at: float
    updated_at: float
    event_id: str
    position: str


class UniverseSummary(TypedDict):
    """A universe, and how many symbols it has."""

    key: str
    name: str | None
    description: str | None
    symbol_count: int


class UniverseDetails(TypedDict):
    """A universe with its symbols. ``updated_at`` is in epoch seconds; ``position`` as of a symbol."""

    key: str
    name: str | None
    description: str | None
    symbols: list[str]
    updated_at: float
    event_id: str
    position: str


def symbol_summary(row: SymbolRow) -> SymbolSummary:
    """A symbol in a list."""
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


def symbol_details(found: ResultRow[SymbolRow]) -> SymbolDetails:
    """A symbol by itself."""
    row = found.row
    return {
        **symbol_summary(row),
        "active": row.active,
        "listed_at": row.listed_at,
        "updated_at": row.updated_at,
        "event_id": row.event_id,
        "position": provenance(found),
    }


def universe_summary(row: UniverseRow) -> UniverseSummary:
    """A universe in a list."""
    return {
        "key": row.key,
        "name": row.name,
        "description": row.description,
        "symbol_count": len(row.symbols),
    }


def universe_details(found: ResultRow[UniverseRow]) -> UniverseDetails:
    """A universe by itself."""
    row = found.row
    return {
        "key": row.key,
        "name": row.name,
        "description": row.description,
        "symbols": row.symbols,
        "updated_at": row.updated_at,
        "event_id": row.event_id,
        "position": provenance(found),
    }
