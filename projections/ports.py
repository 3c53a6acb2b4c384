"""What the engine asks of a store: the port that folding, replay and retry are written against."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from domain.log import LogEntry
from projections.base import Projection
from projections.fold import LoadedState
from projections.mutations import Mutations
from projections.versions import Build


class Segment(NamedTuple):
    """The work of one build of a read model on one log. At most one worker at a time commits for it."""

    read_model: str
    build: Build
    log: str


@dataclass
class Lease:
    """The right to commit for a segment, until it is given to another owner under a higher epoch."""

    segment: Segment
    owner: str
    epoch: int
    checkpoint: int
    """The position up to which the segment has been folded."""
    retries: bool = False
    """Whether an operator asks for parked keys to be tried again."""


class Progress(NamedTuple):
    """How far a batch brings a segment."""

    position: int
    """Of the last event read, whether or not the projection handles it."""
    recorded_at: float
    """When that event was recorded, seconds since the epoch."""
    events_per_second: float


class CommitOutcome(Enum):
    """What became of a commit."""

    COMMITTED = "committed"
    ALREADY_COMMITTED = "already there"
    """The checkpoint is at or past the commit's position: an earlier try of the same commit has been heard."""
    CHECKPOINT_MISMATCH = "out of step"
    """The checkpoint is not where the batch began."""
    FENCED = "not ours"
    """The fence: the lease has been given to another owner."""


class PendingCommit(Protocol):
    """A commit that has been sent to the store. ``result`` must be called exactly once."""

    def result(self) -> CommitOutcome:
        """Wait for the outcome. If the segment is at the new checkpoint now, move the lease's checkpoint too."""
        ...


class ReadModelStore(Protocol):
    """A store of read models. Every commit is all or nothing."""

    def load(
        self,
        projection: Projection[Any, Any],
        segment: Segment,
        keys: set[str],
        groups: set[str],
        parkable: set[str],
    ) -> LoadedState:
        """What it holds of these rows and of the rows of these groups, and which of ``parkable`` are parked."""
        ...

    def begin_commit(self, lease: Lease, progress: Progress, mutations: Mutations) -> PendingCommit:
        """Send the changes and the new checkpoint, all or nothing. The caller can work until it needs the outcome."""
        ...

    def parked_entries(self, segment: Segment, key: str, limit: int) -> Sequence[LogEntry]:
        """The first events that are parked under ``key``, in order."""
        ...

    def commit_retry(self, lease: Lease, key: str, done: int, mutations: Mutations) -> CommitOutcome:
        """Make the changes and take the first ``done`` events off those parked under ``key``; the checkpoint stays."""
        ...

    def retry_requests(self, segment: Segment) -> Iterable[str]:
        """The parked keys that an operator wants tried again."""
        ...
