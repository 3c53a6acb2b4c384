"""The live read models, as an API process follows them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar

from projections.queries import Positions, ResultRow
from projections.versions import Build

Queries = TypeVar("Queries", covariant=True)


@dataclass(frozen=True)
class LiveBuild(Generic[Queries]):
    """What answers for a read model at one moment. A request is answered from one of these alone."""

    build: Build
    queries: Queries
    positions: Positions
    """The position up to which each log is folded, at least; 0 where nothing is known yet."""

    @cached_property
    def formatted_positions(self) -> str:
        """They as a header has them."""
        return format_positions(self.positions)


def format_positions(positions: Positions) -> str:
    """``market-0=12,market-1=7``."""
    return ",".join([f"{log}={position}" for log, position in positions.items()])


def provenance(found: ResultRow[Any]) -> str:
    """Where the event stands that last changed a row, as in the header: ``market-0=17``."""
    return format_positions({found.log: found.position})


class LiveBuilds(Protocol[Queries]):
    """The build of a read model that is live, followed from one to the next; known without asking anybody."""

    @property
    def current(self) -> LiveBuild[Queries]:
        """What answers now."""
        ...

    async def reached(self, positions: Positions, timeout: float) -> LiveBuild[Queries] | None:  # noqa: ASYNC109 one that is met, not raised
        """What answers as soon as it is at or past all ``positions``; None if it is not within ``timeout`` seconds.

        A log that the read model does not know counts as not reached.
        """
        ...


class Freshness(Protocol):
    """Whether an API process still hears of what is committed."""

    def age(self) -> float | None:
        """Seconds since the store was last heard of, if it is away; None while it is there."""
        ...
