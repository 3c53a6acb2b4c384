"""The read model ``universes``: the universes of the catalogue with their symbols."""

from dataclasses import dataclass, field
from typing import Annotated

from domain.events import UniverseChanged, UniverseDefined
from projections.base import Projection
from projections.columns import EPOCH_SECONDS, Column
from projections.views import Converted, View

Handled = UniverseDefined | UniverseChanged
"""The events that the projection folds."""


@dataclass(frozen=True, slots=True)
class UniverseRow:
    """One universe of the catalogue with its symbols."""

    key: str
    """Key of the universe, spelled as in the catalogue."""
    defined_at: Annotated[float, Column(unit=EPOCH_SECONDS)]
    """Time of the first event of the universe."""
    updated_at: Annotated[float, Column(range=True, sort=True, unit=EPOCH_SECONDS)]
    """Time of the latest event of the universe."""
    name: Annotated[str | None, Column(sort=True)] = None
    """Name of the universe."""
    description: str | None = None
    """Description of the universe."""
    symbols: list[str] = field(default_factory=list)
    """Symbols of the universe."""
    category: str | None = None
    """Kind of the universe, as its source names it."""
    criteria: str | None = None
    """Rule by which the symbols were selected, in words of the source."""
    event_id: str = ""
    """Id of the event that last changed the row."""


def number_of(symbols: list[str]) -> int:
    """Count the symbols."""
    return len(symbols)


SUMMARY = View(
    key="key",
    name="name",
    description="description",
    category="category",
    criteria="criteria",
    symbol_count=Converted("symbols", number_of),
)
"""A universe in a list."""

DETAILED = View.of_columns(UniverseRow, without=("defined_at",))
"""A universe with its symbols and its provenance."""


class Universes(Projection[UniverseRow, Handled]):
    """The projection of universes."""

    name = "universes"
    version = 2
    row = UniverseRow
    key = "key"
    has_replica = True
    views = {"summary": SUMMARY, "details": DETAILED}
    handles = (UniverseDefined, UniverseChanged)

    def keys(self, event: Handled) -> tuple[str, ...]:
        """Return the key of the universe."""
        return (event.key,)

    def evolve(self, row: UniverseRow | None, event: Handled) -> UniverseRow:
        """Replace the definition. The last event wins, because the catalogue has one source."""
        return UniverseRow(
            key=event.key,
            defined_at=row.defined_at if row else event.occurred_at,
            updated_at=event.occurred_at,
            name=event.name,
            description=event.description,
            symbols=event.symbols,
            category=event.category,
            criteria=event.criteria,
            event_id=event.event_id,
        )
