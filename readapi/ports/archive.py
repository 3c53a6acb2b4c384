"""What the API asks of the archive: the events of the past, and how the archive itself stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from typing_extensions import TypedDict

from domain.log import LogEntry
from projections.queries import Positions


class PastEvent(Protocol):
    """An event with its place in the chain of its log."""

    @property
    def log(self) -> str:
        """The log that it stands in."""
        ...

    @property
    def entry(self) -> LogEntry:
        """The event as it is stored."""
        ...

    @property
    def source(self) -> str | None:
        """Who announced it."""
        ...

    @property
    def correlation_id(self) -> str | None:
        """What ties it to other events."""
        ...

    @property
    def hash(self) -> bytes | None:
        """None as long as it is not archived."""
        ...


@dataclass(frozen=True)
class EventFilter:
    """Which events of the past, joined by *and*; None lets all pass. Times are in epoch seconds."""

    stream: str | None = None
    type: str | None = None
    """Name of the event's class; the whole topic (``module:Class``) of one that is not ours."""
    source: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    log: str | None = None
    from_position: int | None = None
    """Of each log, included."""
    to_position: int | None = None
    """Of each log, included."""
    from_time: float | None = None
    """When it was recorded, included."""
    to_time: float | None = None
    """When it was recorded, excluded."""


@dataclass(frozen=True)
class EventPage:
    """Some events, in order of (time recorded, log, position)."""

    events: Sequence[PastEvent]
    next: Positions | None
    """The page after begins behind these positions; None if this is the last. A page may be short and not the last."""


class TamperFinding(TypedDict):
    """The first event of a log that does not fit its chain, and what befell it."""

    position: int
    kind: Literal["changed", "missing", "added", "swapped"]
    detail: str


class VerifiedLog(TypedDict):
    """What was found of one log: its events from ``first`` to ``last`` fit; ``hash`` is that of the last, in
    hexadecimal digits. Null where there are none.
    """

    log: str
    first: int | None
    last: int | None
    events: int
    hash: str | None
    misfit: TamperFinding | None


class Verification(TypedDict):
    """What a verification of the whole archive found. Times are epoch seconds."""

    started_at: float
    finished_at: float
    events: int
    events_per_second: float
    ok: bool
    logs: list[VerifiedLog]


class History(Protocol):
    """The whole past, archived or not. Every method raises UnavailableError."""

    async def events(self, wanted: EventFilter, after: Positions, limit: int) -> EventPage:
        """The events behind these positions (of logs that are not named: from the beginning), ``limit`` at most."""
        ...

    async def has_stream(self, stream: str) -> bool:
        """Whether a stream ever had an event."""
        ...

    async def of_pattern(self, pattern_id: str, limit: int) -> Sequence[PastEvent]:
        """The first events that spoke of a pattern."""
        ...

    async def of_stream(self, stream: str, limit: int) -> Sequence[PastEvent]:
        """The first events of a stream."""
        ...

    async def verification(self) -> Verification | None:
        """What the last verification of the archive found; None if there was none."""
        ...


@dataclass(frozen=True)
class ArchivedLog:
    """How far the archive has come with a log.

    ``id`` and ``epoch`` are the log's; None and 0 before it is first opened. ``first`` is the first position that the
    log still has, None if it is empty. ``owner`` is the archiver that has it, if one has; ``error`` what holds it up;
    ``lag_seconds`` the age of the oldest event not archived yet.
    """

    log: str
    id: str | None
    epoch: int
    position: int
    head: int
    first: int | None
    lag_events: int
    lag_seconds: float
    owner: str | None
    error: str | None


@dataclass(frozen=True)
class LogLoss:
    """A time that a log came back with less than others had seen.

    ``noticed_at`` is in epoch seconds. The log ended at ``found``; the archive put it back up to ``restored``; read
    models had seen it up to ``seen``, and those that had seen more than was restored are ``rebuilt``.
    """

    log: str
    noticed_at: float
    epoch: int
    found: int
    restored: int
    seen: int
    rebuilt: Sequence[str]


@dataclass(frozen=True)
class ArchiveStatus:
    """How the archive stands."""

    logs: Sequence[ArchivedLog]
    losses: Sequence[LogLoss]
    """The newest first, ten at most."""
    verification: Verification | None
    """What the last verification found; None if there was none."""
