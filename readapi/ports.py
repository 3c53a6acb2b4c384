"""What the API asks of the rest of the service: live read models, commands, dead letters, how things stand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from domain.announcements import DeadLetter, Receipt
from domain.workspace import Workspace
from projections.queries import Found, Positions
from projections.versions import Build
from readapi.archive_ports import ArchiveStatus

Queries = TypeVar("Queries", covariant=True)


class UnavailableError(Exception):
    """The service cannot do this now; the message says why. Trying again after ``retry_after`` seconds may help."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NoSuchReadModelError(LookupError):
    """There is no read model of this name; the message says which there are."""


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


def provenance(found: Found[Any]) -> str:
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


class Announcements(Protocol):
    """The way in by POST."""

    async def record(self, messages: Sequence[tuple[str, bytes]]) -> list[Receipt]:
        """Record messages (channel, payload); each event is as safe as configured when this returns.

        Raises UnavailableError where the backlog is full or the log cannot be reached.
        """
        ...


class Executed(NamedTuple):
    """What a command has made of a workspace, and up to which position all of that is recorded."""

    workspace: Workspace
    positions: Positions


class WorkspaceDesk(Protocol):
    """The commands to users' workspaces."""

    async def execute(self, user: str, command: Callable[[Workspace], None]) -> Executed:
        """Let ``command`` do something to the user's workspace, and record it, all or nothing.

        It is asked once more if somebody else has changed the workspace meanwhile. Raises what it raises
        (WorkspaceError), and UnavailableError.
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
    """How a read model stands: its builds, named ``<version>.<number>``, and the segments of two of them."""

    name: str
    version: int
    """Of the live build; of the code, while there is none."""
    previous_version: int | None
    building_version: int | None
    live: str | None
    previous: str | None
    building: str | None
    held: bool
    """Whether the build under way waits for somebody's word before it goes live."""
    segments: Sequence[SegmentStatus]
    """Of the live build."""
    building_segments: Sequence[SegmentStatus]
    """Of the build under way."""


@dataclass(frozen=True)
class ParkedKey:
    """A key of a live build whose events wait for a fix: ``error`` tells what befell the first, which stands at
    ``position`` of ``log`` and was recorded at ``since`` (epoch seconds)."""

    key: str
    log: str
    position: int
    since: float
    events: int
    error: str


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
    """How the service stands, and what an operator can do about its read models.

    What names a read model raises NoSuchReadModelError if there is none of that name.
    """

    async def read_models(self) -> Sequence[ReadModelStatus]:
        """Every read model."""
        ...

    async def replay(self, name: str, *, held: bool, throttle: int) -> ReadModelStatus:
        """Build it anew beside the live build, at ``throttle`` events a second for each segment (0: no limit).

        A build that is under way already is joined. It goes live by itself once it has caught up, unless ``held``.
        """
        ...

    async def rollback(self, name: str) -> ReadModelStatus:
        """Let the previous build answer again. Raises NoSuchBuildError."""
        ...

    async def parked(self, name: str) -> Sequence[ParkedKey]:
        """The parked keys of its live build, 1,000 of each log at most."""
        ...

    async def retry_parked(self, name: str, key: str) -> bool:
        """Have a parked key tried again; False if it is not parked."""
        ...

    async def intake(self) -> IntakeStatus:
        """What came in."""
        ...

    async def servers(self) -> Mapping[str, ServerStatus]:
        """``redis``, and ``postgres`` where there is an archive."""
        ...

    async def archive(self) -> ArchiveStatus | None:
        """How the archive stands; None where there is none. Raises UnavailableError."""
        ...
