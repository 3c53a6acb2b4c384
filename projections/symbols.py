"""The read model ``symbols``: the symbols of the catalogue, for dropdowns and the sector filter."""

from dataclasses import dataclass, replace

from domain.events import SymbolChanged, SymbolDelisted, SymbolListed
from projections.base import Projection

Handled = SymbolListed | SymbolChanged | SymbolDelisted
"""The events that the projection folds."""

DETAILS = ("name", "exchange", "market", "type", "sector", "industry", "market_cap")
"""The fields of a catalogue entry, except the symbol."""


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """One symbol of the catalogue, traded or delisted. All times are in seconds since the epoch."""

    symbol: str
    listed_at: float
    """Time of the first event of the symbol."""
    updated_at: float
    """Time of the latest event of the symbol."""
    name: str | None = None
    exchange: str | None = None
    market: str | None = None
    type: str | None = None
    sector: str | None = None
    industry: str | None = None
    market_cap: float | None = None
    """Market capitalization in the currency of the market."""
    active: bool = True
    """Whether the symbol is traded."""
    event_id: str = ""
    """Id of the event that last changed the row."""


class Symbols(Projection[SymbolRow, Handled]):
    """The projection of symbols. A delisted symbol keeps its row, so that it can be listed again."""

    name = "symbols"
    version = 1
    row = SymbolRow
    handles = (SymbolListed, SymbolChanged, SymbolDelisted)

    def keys(self, event: Handled) -> tuple[str, ...]:
        """Return the symbol."""
        return (event.symbol,)

    def evolve(self, row: SymbolRow | None, event: Handled) -> SymbolRow | None:
        """Apply a catalogue event. The last event wins, because the catalogue has one source.

        A change does not alter whether the symbol is traded.
        """
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
