"""``universes``: named sets of symbols. Answers which there are, and what is in each."""

from dataclasses import dataclass, field

from domain.events import UniverseChanged, UniverseDefined
from projections.base import Projection

Handled = UniverseDefined | UniverseChanged


@dataclass(frozen=True, slots=True)
class UniverseRow:
    """One universe. Times in seconds since the epoch."""

    key: str
    defined_at: float
    updated_at: float
    name: str | None = None
    description: str | None = None
    symbols: list[str] = field(default_factory=list)
    event_id: str = ""
    """The event that last changed it."""


class Universes(Projection[UniverseRow, Handled]):
    """Universes by their keys."""

    name = "universes"
    version = 1
    row = UniverseRow
    handles = (UniverseDefined, UniverseChanged)

    def keys(self, event: Handled) -> tuple[str, ...]:
        """The universe's key."""
        return (event.key,)

    def evolve(self, row: UniverseRow | None, event: Handled) -> UniverseRow:
        """What is said last counts: the catalogue has one source."""
        return UniverseRow(
            key=event.key,
            defined_at=row.defined_at if row else event.occurred_at,
            updated_at=event.occurred_at,
            name=event.name,
            description=event.description,
            symbols=event.symbols,
            event_id=event.event_id,
        )
