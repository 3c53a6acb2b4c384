"""The read model ``symbols``: the symbols of the catalogue, for dropdowns and the sector filter."""

from dataclasses import dataclass, replace
from typing import Annotated

from domain.events import SymbolChanged, SymbolDelisted, SymbolListed
from projections.base import Projection
from projections.columns import EPOCH_SECONDS, Column
from projections.views import View

Handled = SymbolListed | SymbolChanged | SymbolDelisted
"""The events that the projection folds."""

DETAILS = (
    *("name", "exchange", "market", "type", "sector", "industry", "market_cap"),
    *("locale", "currency_name", "currency_symbol", "cik", "composite_figi", "share_class_figi"),
    "weighted_shares_outstanding",
)
"""The fields of a catalogue entry, except the symbol."""


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """One symbol of the catalogue, traded or delisted."""

    symbol: Annotated[str, Column(sort=True)]
    """Ticker symbol."""
    listed_at: Annotated[float, Column(unit=EPOCH_SECONDS)]
    """Time of the first event of the symbol."""
    updated_at: Annotated[float, Column(range=True, sort=True, unit=EPOCH_SECONDS)]
    """Time of the latest event of the symbol."""
    name: Annotated[str | None, Column(sort=True)] = None
    """Name of the company."""
    exchange: Annotated[str | None, Column(equality=True)] = None
    """Exchange at which the symbol is traded."""
    market: Annotated[str | None, Column(equality=True, closed=True)] = None
    """Market of the symbol."""
    type: Annotated[str | None, Column(equality=True)] = None
    """Kind of the security."""
    sector: Annotated[str | None, Column(equality=True, closed=True)] = None
    """Sector of the company."""
    industry: Annotated[str | None, Column(equality=True)] = None
    """Industry of the company."""
    market_cap: Annotated[float | None, Column(range=True, sort=True)] = None
    """Market capitalization in the currency of the market."""
    locale: str | None = None
    """Region of the market."""
    currency_name: str | None = None
    """Currency in which the symbol is traded."""
    currency_symbol: str | None = None
    """Sign of the currency."""
    cik: str | None = None
    """Central Index Key of the company."""
    composite_figi: str | None = None
    """Composite FIGI of the security."""
    share_class_figi: str | None = None
    """Share class FIGI of the security."""
    weighted_shares_outstanding: float | None = None
    """Number of outstanding shares, over all share classes."""
    active: Annotated[bool, Column(equality=True)] = True
    """Whether the symbol is traded."""
    event_id: str = ""
    """Id of the event that last changed the row."""


SUMMARY = View(
    symbol="symbol",
    name="name",
    exchange="exchange",
    market="market",
    type="type",
    sector="sector",
    industry="industry",
    market_cap="market_cap",
)
"""A symbol in a list."""

DETAILED = SUMMARY.extended(**View.of_columns(SymbolRow, without=SUMMARY.members).members)
"""A symbol with its provenance."""


class Symbols(Projection[SymbolRow, Handled]):
    """The projection of symbols. A delisted symbol keeps its row, so that it can be listed again."""

    name = "symbols"
    version = 2
    row = SymbolRow
    key = "symbol"
    has_replica = True
    views = {"summary": SUMMARY, "details": DETAILED}
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
