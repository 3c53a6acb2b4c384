"""The port to the live read models: the live build of each, its positions and its freshness."""

from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from projections.queries import Positions, RowQueries
from projections.versions import Build

Queries = TypeVar("Queries", covariant=True)
Row = TypeVar("Row")


@dataclass(frozen=True)
class LiveBuild(Generic[Queries]):
    """The live build of a read model at one moment. Each response is made from exactly one live build."""

    build: Build
    queries: Queries
    positions: Positions
    """Log -> position up to which the build is folded at least. 0 while the position is unknown."""

    @cached_property
    def formatted_positions(self) -> str:
        """The positions as the value of a header."""
        return format_positions(self.positions)


LiveRows = LiveBuild[RowQueries[Row]]
"""The live build of a read model with rows of a type."""


def format_positions(positions: Positions) -> str:
    """Format positions as the value of a header: ``market-0=12,market-1=7``."""
    return ",".join([f"{log}={position}" for log, position in positions.items()])


class LiveBuilds(Protocol[Queries]):
    """The live build of a read model, which this process follows from switch to switch."""

    @property
    def current(self) -> LiveBuild[Queries]:
        """The live build now."""
        ...

    async def reached(self, positions: Positions, timeout: float) -> LiveBuild[Queries] | None:  # noqa: ASYNC109 reaching it is no error
        """Wait until the live build has reached all positions.

        Args:
            positions: Log -> position to wait for. A log that the read model does not fold is never reached.
            timeout: Seconds to wait at most.

        Returns:
            The live build, or None if it did not reach the positions in time.
        """
        ...


class Freshness(Protocol):
    """Whether this process still receives the commits of the workers."""

    def age(self) -> float | None:
        """Return the seconds since the last contact with the store if it is unavailable, else None."""
        ...
