"""The read model ``universes``: the universes of the catalogue with their symbols."""

from dataclasses import dataclass, field

from domain.events import UniverseChanged, UniverseDefined
from projections.base import Projection

Handled = UniverseDefined | UniverseChanged
"""The events that the projection folds."""


@dataclass(frozen=True, slots=True)
class UniverseRow:
    """One universe of the catalogue. All times are in seconds since the epoch."""

    key: str
    defined_at: float
    """Time of the first event of the universe."""
    updated_at: float
    """Time of the latest event of the universe."""
    name: str | None = None
    description: str | None = None
    symbols: list[str] = field(default_factory=list)
    event_id: str = ""
    """Id of the event that last changed the row."""


class Universes(Projection[UniverseRow, Handled]):
    """The projection of universes."""

    name = "universes"
    version = 1
    row = UniverseRow
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
            event_id=event.event_id,
        )
