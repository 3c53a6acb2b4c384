"""What the API asks of the rest of the service besides the read models: commands, dead letters, how things stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.announcements import DeadLetter, Receipt


class UnavailableError(Exception):
    """The service cannot do this now; the message says why. Trying again after ``retry_after`` seconds may help."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Announcements(Protocol):
    """The way in by POST."""

    async def record(self, messages: Sequence[tuple[str, bytes]]) -> list[Receipt]:
        """Record messages (channel, payload); each event is as safe as configured when this returns.

        Raises UnavailableError where the backlog is full or the log cannot be reached.
        """
        ...


class DeadLetterDesk(Protocol):
    """The dead letters."""

    async def page(self, cursor: str | None, limit: int) -> tuple[Sequence[DeadLetter], str | None]:
        """Letters, the newest first, and the cursor of the next page; None if there is none.

        Raises ValueError for a cursor that is none of ours.
        """
        ...

    async def get(self, letter_id: str) -> DeadLetter | None:
        """One letter."""
        ...

    async def retry(self, letter_id: str) -> Receipt | None:
        """Read it again; None if there is no such letter."""
        ...

    async def discard(self, letter_id: str) -> bool:
        """Remove it; False if there is no such letter."""
        ...


@dataclass(frozen=True)
class SegmentStatus:
    """How far a segment, a read model's work on one log, is.

    ``owner`` is the worker that has it, if one has; ``lag_seconds`` the age of the oldest event not folded yet.
    """

    log: str
    checkpoint: int
    head: int
    lag_events: int
    lag_seconds: float
    events_per_second: float
    owner: str | None
    parked_keys: int


@dataclass(frozen=True)
class ReadModelStatus:
    """How a read model stands."""

    name: str
    version: int
    previous_version: int | None
    building_version: int | None
    segments: Sequence[SegmentStatus]


@dataclass(frozen=True)
class IntakeStatus:
    """What came in since the beginning: ``<way>.<what>`` -> how many; and the dead letters kept and dropped."""

    counts: Mapping[str, int]
    dead_letters: int
    dead_letters_dropped: int


@dataclass(frozen=True)
class ServerStatus:
    """A server that the service stands on; ``version`` and ``latency_ms`` are None where it is not up."""

    up: bool
    version: str | None = None
    latency_ms: float | None = None


class Operations(Protocol):
    """How the service stands."""

    async def read_models(self) -> Sequence[ReadModelStatus]:
        """Every read model."""
        ...

    async def intake(self) -> IntakeStatus:
        """What came in."""
        ...

    async def servers(self) -> Mapping[str, ServerStatus]:
        """``redis`` (and ``postgres`` where it is used)."""
        ...
