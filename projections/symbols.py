"""``symbols``: the catalogue's symbols. Answers dropdowns, and which symbols a sector has."""

from dataclasses import dataclass, replace

from domain.events import SymbolChanged, SymbolDelisted, SymbolListed
from projections.base import Projection

Handled = SymbolListed | SymbolChanged | SymbolDelisted

DETAILS = ("name", "exchange", "market", "type", "sector", "industry", "market_cap")
"""What the catalogue says of a symbol, besides whether it is traded."""


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """One symbol, whether it is still traded or not. Times in seconds since the epoch."""

    symbol: str
    listed_at: float
    updated_at: float
    name: str | None = None
    exchange: str | None = None
    market: str | None = None
    type: str | None = None
    sector: str | None = None
    industry: str | None = None
    market_cap: float | None = None
    active: bool = True
    event_id: str = ""
    """The event that last changed it."""


class Symbols(Projection[SymbolRow, Handled]):
    """Symbols; one that is delisted stays, so that it can be listed again."""

    name = "symbols"
    version = 1
    row = SymbolRow
    handles = (SymbolListed, SymbolChanged, SymbolDelisted)

    def keys(self, event: Handled) -> tuple[str, ...]:
        """The symbol."""
        return (event.symbol,)

    def evolve(self, row: SymbolRow | None, event: Handled) -> SymbolRow | None:
        """What is said last counts: the catalogue has one source. A change says nothing of whether it is traded."""
        if isinstance(event, SymbolDelisted):
            return row and replace(row, active=False, updated_at=event.occurred_at, event_id=event.event_id)
        return SymbolRow(
            symbol=event.symbol,
            listed_at=row.listed_at if row else event.occurred_at,
            updated_at=event.occurred_at,
            active=row is None or row.active or isinstance(event, SymbolListed),
            event_id=event.event_id,
            **{name: getattr(event, name) for name in DETAILS},
        )
