"""The port for operators: the status of the service, and commands to its read models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.origins import Sender
from readapi.ports.archive import ArchiveStatus
from readapi.ports.jobs import Job


@dataclass(frozen=True)
class SegmentStatus:
    """The progress of a segment: a read model's work on one log.

    Attributes:
        log: The name of the log.
        checkpoint: The position up to which the log is folded.
        head: The last position of the log.
        lag_events: The number of events that are not folded yet.
        lag_seconds: The age of the oldest event that is not folded yet, in seconds.
        events_per_second: The present rate of folding.
        owner: The worker that holds the lease of the segment, or None.
        parked_keys: The number of parked keys.
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
    """The status of a read model. Builds are named ``<version>.<number>``. A missing build is None."""

    name: str
    version: int
    """Version of the live build. Version of the projection in this release while no build is live."""
    previous_version: int | None
    building_version: int | None
    live: str | None
    previous: str | None
    building: str | None
    held: bool
    """Whether the build under way waits for an operator's command to go live."""
    folded: bool
    """Whether a running worker can fold the live build. False while no build is live."""
    segments: Sequence[SegmentStatus]
    """Segments of the live build."""
    building_segments: Sequence[SegmentStatus]
    """Segments of the build under way."""


@dataclass(frozen=True)
class ParkedKey:
    """A key of a live build whose events could not be folded and wait for a fix.

    Attributes:
        key: The key.
        log: The log that contains the events.
        position: The position of the first event that could not be folded.
        since: The time at which that event was recorded, in epoch seconds.
        events: The number of waiting events.
        error: The error that the first event caused.
    """

    key: str
    log: str
    position: int
    since: float
    events: int
    error: str


@dataclass(frozen=True)
class Gap:
    """A time in which a recorder did not hear one way in, so that messages may be lost."""

    way: str
    recorder: str
    """Name of the process."""
    began_at: float
    """Epoch seconds."""
    ended_at: float
    """Epoch seconds."""
    reason: str
    others: int
    """Number of other recorders that heard this way when the gap ended. They recorded the messages of the gap."""


@dataclass(frozen=True)
class IntakeStatus:
    """Counts of received messages and events, over all processes and since the first start."""

    counts: Mapping[str, int]
    """``<way>.<result>``, for example ``http.recorded`` -> count. The way is how a message arrived."""
    dead_letters: int
    """Number of stored dead letters."""
    dead_letters_dropped: int
    """Number of dead letters that were deleted because the store was full."""
    gaps: Sequence[Gap]
    """The latest gaps, the newest first."""


@dataclass(frozen=True)
class AlertStatus:
    """The state of the alerts of all users."""

    waiting: int
    """Number of deliveries that wait for an attempt, or for the next one."""
    oldest_seconds: float
    """Age of the detection of the oldest waiting delivery, in seconds. 0: none waits."""
    lag_events: int
    """Number of events of the market log that are not matched yet."""
    outcomes: Mapping[str, int]
    """Number of attempts since the first start by outcome: ``delivered``, ``failed`` (given up) or ``retry``."""


@dataclass(frozen=True)
class ServerStatus:
    """The status of a server that the service needs. ``version`` and ``latency_ms`` are None if it is not up."""

    up: bool
    version: str | None = None
    latency_ms: float | None = None
    failures: Sequence[str] = ()
    """Faults by which data are lost. Each text is a clause whose subject is the server."""
    warnings: Sequence[str] = ()
    """Faults by which the server refuses writes."""


ROLES = ("record", "project", "archive", "expire", "serve", "catalogue", "alert")
"""The roles that processes of TickView have. A worker has the roles ``project`` and ``expire``."""

WAYS = ("pubsub", "stream", "http")
"""The ways by which messages arrive."""


ALIVE_SECONDS = 8.0
"""Age of a heartbeat, in seconds, up to which its process counts as alive. A process beats once per second."""


@dataclass(frozen=True)
class Liveness:
    """The processes of a role, or the processes that hear one way in."""

    ages: Mapping[str, float]
    """Process -> age of its heartbeat in seconds. A process that ended in order is not among them."""
    stalled: Mapping[str, str]
    """Process that runs but does not work -> the error that prevents the work. Empty text: a thread hangs."""

    @property
    def processes(self) -> int:
        """The number of processes whose threads all do their work."""
        return sum(1 for age in self.ages.values() if age <= ALIVE_SECONDS)

    @property
    def age_seconds(self) -> float | None:
        """The age of the latest heartbeat, in seconds. None if no process has a heartbeat."""
        return round(min(self.ages.values()), 3) if self.ages else None


class Operations(Protocol):
    """The status of the service, and commands to its read models.

    Commands are recorded with the name of the operator before they are executed.

    Every method except ``servers`` raises UnavailableError while its store cannot be reached. Every method with a
    ``name`` raises NoSuchReadModelError if there is no read model with this name.
    """

    async def read_models(self) -> Sequence[ReadModelStatus]:
        """Return the status of every read model."""
        ...

    async def replay(self, name: str, operator: Sender, *, held: bool, throttle: int) -> ReadModelStatus:
        """Start a new build of a read model beside the live build, or join the build under way.

        Args:
            name: Name of the read model.
            operator: The operator who gave the command.
            held: Whether the build waits for a command before it goes live. Otherwise it goes live when it has caught
                up.
            throttle: Highest number of events per second and segment. 0 means no limit.

        Raises:
            NotFoldableError: No running worker has the code of this process.
            NoSuchBuildError: There is no live build yet.
        """
        ...

    async def verify_replay(self, name: str, operator: Sender) -> Job:
        """Start a comparison of the live build with the build under way or, without one, with the previous build.

        The options of the job name the builds ``old`` and ``new``.

        Raises:
            StateConflictError: A comparison is under way, or the build has not caught up with the logs.
            NoSuchBuildError: There is only one build.
            NotFoldableError: No running worker can fold the build under way.
        """
        ...

    async def replay_verification(self, name: str) -> Job | None:
        """Return the last comparison of builds. None if there was none."""
        ...

    async def switch(self, name: str, build: str, operator: Sender) -> ReadModelStatus:
        """Make the build under way live.

        Raises:
            StateConflictError: The build has not caught up with the logs.
            NoSuchBuildError: The build is not under way.
            NotFoldableError: No running worker can fold the build.
        """
        ...

    async def rollback(self, name: str, operator: Sender) -> ReadModelStatus:
        """Make the previous build the live build again.

        Raises:
            NoSuchBuildError: There is no previous build.
            NotFoldableError: No running worker can fold the previous build.
        """
        ...

    async def parked(self, name: str) -> Sequence[ParkedKey]:
        """Return the parked keys of the live build, at most 1,000 for each log."""
        ...

    async def retry_parked(self, name: str, key: str, operator: Sender) -> bool:
        """Request another attempt to fold a parked key. Return False if the key is not parked."""
        ...

    async def intake(self) -> IntakeStatus:
        """Return the counts of received messages."""
        ...

    async def alerts(self) -> AlertStatus:
        """Return the state of the alerts of all users."""
        ...

    async def liveness(self) -> Mapping[str, Liveness]:
        """Return the processes of each of ``ROLES`` and ``WAYS``."""
        ...

    async def servers(self) -> Mapping[str, ServerStatus]:
        """Return the status of ``redis``, and of ``postgres`` where there is an archive."""
        ...

    async def archive(self) -> ArchiveStatus | None:
        """Return the status of the archive, or None if there is no archive."""
        ...
