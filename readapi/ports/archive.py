"""The port to the archive: the event history, the last verification and the status of the archive."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from typing_extensions import TypedDict

from domain.log import LogEntry
from projections.queries import Positions


class PastEvent(Protocol):
    """A recorded event, with its log and its hash."""

    @property
    def log(self) -> str:
        """The name of the log that contains the event."""
        ...

    @property
    def entry(self) -> LogEntry:
        """The entry in the log."""
        ...

    @property
    def source(self) -> str | None:
        """The name of the producer."""
        ...

    @property
    def correlation_id(self) -> str | None:
        """The correlation id, which related events share."""
        ...

    @property
    def hash(self) -> bytes | None:
        """The hash in the hash chain of the log, or None until the event is archived."""
        ...

    @property
    def is_forgotten(self) -> bool:
        """Whether the content is unreadable, because the key of the user is destroyed."""
        ...


@dataclass(frozen=True)
class EventFilter:
    """A filter of the event history. An event must pass every field that is not None. Times are in epoch seconds."""

    stream: str | None = None
    type: str | None = None
    """Name of the event's class, or the whole topic (``module:Class``) of an event that TickView does not define."""
    source: str | None = None
    event_id: str | None = None
    correlation_id: str | None = None
    log: str | None = None
    from_position: int | None = None
    """First position to include, in each log."""
    to_position: int | None = None
    """Last position to include, in each log."""
    from_time: float | None = None
    """Earliest time of recording to include."""
    to_time: float | None = None
    """End of the time of recording, which is excluded."""


@dataclass(frozen=True)
class EventPage:
    """A page of events, ordered by time of recording, log and position."""

    events: Sequence[PastEvent]
    next: Positions | None
    """The positions behind which the next page begins, or None on the last page.

    A page may have fewer events than the limit although another page follows.
    """


class TamperFinding(TypedDict):
    """The first event of a log that does not match the hash chain, and the kind of the change.

    ``kind`` is ``changed``, ``missing``, ``added`` or ``swapped`` (with another event).
    """

    position: int
    kind: Literal["changed", "missing", "added", "swapped"]
    detail: str


class VerifiedLog(TypedDict):
    """The result of the verification of one log.

    The events from the position ``first`` to the position ``last`` match the hash chain. ``hash`` is the hash of the
    last event, in hexadecimal digits. ``first``, ``last`` and ``hash`` are null if no event matches. ``misfit`` is the
    first event that does not match, or null.
    """

    log: str
    first: int | None
    last: int | None
    events: int
    hash: str | None
    misfit: TamperFinding | None


class HistoryFinding(TypedDict):
    """The first row of a history that does not follow from the events, and the kind of the change.

    ``key`` is the key of the row. ``timeline`` and ``since``, the start of the row's interval, are null if the history
    names the events of a row wrongly.
    """

    key: str
    timeline: str | None
    since: str | None
    kind: Literal["changed", "missing", "added"]
    detail: str


class VerifiedHistory(TypedDict):
    """The result of the verification of a history on one log.

    ``rows`` is the number of rows that follow from the events, and ``skipped`` the number of units that have events in
    detached months. ``misfit`` is the first row that does not follow, or null. ``note`` says why nothing was verified,
    or is null. ``log`` is null if the result is about the history as a whole.
    """

    history: str
    version: int
    log: str | None
    events: int
    rows: int
    skipped: int
    misfit: HistoryFinding | None
    note: str | None


class ComparedHeads(TypedDict):
    """Heads of the chains that are kept outside of the archive, and with which the chains were compared.

    ``origin`` is ``redis``, or the file or URL of ``TICKVIEW_AUDIT_HEADS``. ``heads`` is the number of heads.
    ``misfit`` says why the place proves a change, such as a forged signature, or is null. ``note`` says why the place
    has no heads, or is null. A log that does not extend a head has a ``misfit`` itself.
    """

    origin: str
    heads: int
    misfit: str | None
    note: str | None


class Verification(TypedDict):
    """The result of a verification of the whole archive. Times are in epoch seconds.

    ``ok`` is true if every event matches the hash chain, every verified row of a history follows from the events, and
    the chains extend the heads that are kept outside of the archive.
    """

    started_at: float
    finished_at: float
    events: int
    events_per_second: float
    ok: bool
    logs: list[VerifiedLog]
    histories: list[VerifiedHistory]
    heads: list[ComparedHeads]


class History(Protocol):
    """The whole event history: archived events, and events of the log that are not archived yet.

    Every method raises UnavailableError if the archive or the log is unavailable.
    """

    async def events(self, event_filter: EventFilter, after: Positions, limit: int) -> EventPage:
        """Return a page of events.

        Args:
            event_filter: The filter that the events must pass.
            after: The positions behind which the page begins. A log that is not named begins with its first event.
            limit: Highest number of events on the page.
        """
        ...

    async def has_stream(self, stream: str) -> bool:
        """Check whether a stream ever had an event."""
        ...

    async def of_list(self, event_filter: EventFilter, list_id: str, after: Positions, limit: int) -> EventPage:
        """Return a page of the events about a list of a user.

        Args:
            event_filter: The filter, which names the stream of the user.
            list_id: The id of the watchlist or preset.
            after: The positions behind which the page begins.
            limit: Highest number of events on the page.
        """
        ...

    async def of_pattern(self, pattern_id: str, limit: int) -> Sequence[PastEvent]:
        """Return the first ``limit`` events that concern a pattern."""
        ...

    async def of_stream(self, stream: str, limit: int) -> Sequence[PastEvent]:
        """Return the first ``limit`` events of a stream."""
        ...

    async def verification(self) -> Verification | None:
        """Return the result of the last verification, or None if the archive was never verified."""
        ...


@dataclass(frozen=True)
class ArchivedLog:
    """The progress of the archive on one log.

    Attributes:
        log: The name of the log.
        id: The id of the log, or None before the log is opened for the first time.
        epoch: The epoch of the log, or 0 before the log is opened for the first time.
        position: The last archived position.
        head: The last position of the log.
        first: The first position that the log still contains, or None if the log is empty.
        lag_events: The number of events that are not archived yet.
        lag_seconds: The age of the oldest event that is not archived yet, in seconds.
        owner: The archiver that holds the lease of the log, or None.
        error: The error that prevents progress, or None.
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
    """A loss of the end of a log: after a restart, the log had fewer events than before.

    Attributes:
        log: The name of the log.
        noticed_at: The time at which the loss was noticed, in epoch seconds.
        epoch: The epoch of the log after the loss.
        found: The last position of the log after the loss.
        restored: The last position after the archive restored the log.
        seen: The last position that a read model had folded before the loss.
        rebuilt: The read models that had folded lost events. They are built anew.
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
    """The status of the archive."""

    logs: Sequence[ArchivedLog]
    losses: Sequence[LogLoss]
    """The last ten losses, the newest first."""
    verification: Verification | None
    """The result of the last verification, or None if the archive was never verified."""
