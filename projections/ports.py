"""The port of the engine to a store of read models. Live workers, replay and the retry of parked keys use it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, Protocol

from domain.errors import TickViewError
from domain.log import LogEntry
from projections.base import Projection
from projections.fold import LoadedState
from projections.mutations import Mutations
from projections.versions import Build


class Segment(NamedTuple):
    """The work of one build of a read model on one log. At most one worker at a time commits for a segment."""

    read_model: str
    build: Build
    log: str


@dataclass
class Lease:
    """The right to commit for a segment. It ends when another owner gets a lease with a higher epoch."""

    segment: Segment
    owner: str
    epoch: int
    """The number of the lease, from 1. The fence refuses commits of earlier epochs."""
    checkpoint: int
    """The position up to which the segment has been folded."""
    retries: bool = False
    """Whether an operator has requested a retry of parked keys."""


class Progress(NamedTuple):
    """The progress of a segment after a batch."""

    position: int
    """Position of the last entry read, whether or not the projection handles its type."""
    recorded_at: float
    """Time at which the last entry was recorded, in seconds since the epoch."""
    events_per_second: float
    """Rate of folding over the last seconds."""


class CommitOutcome(Enum):
    """The outcome of a commit."""

    COMMITTED = "committed"
    ALREADY_COMMITTED = "already committed"
    """The checkpoint is at or past the position of the commit: an earlier attempt of the same commit succeeded."""
    CHECKPOINT_MISMATCH = "checkpoint mismatch"
    """The checkpoint is not the position at which the batch begins."""
    FENCED = "fenced"
    """The fence refused the commit: another owner has the lease."""


class RowsTooLargeError(TickViewError):
    """The rows that a batch may change are too large to be loaded together."""


class PendingLoad(Protocol):
    """A load that has been requested from the store. ``result`` must be called exactly once."""

    def wait(self) -> None:
        """Receive the stored state without decoding it. ``result`` then does not wait."""
        ...

    def result(self) -> LoadedState:
        """Wait for the stored state.

        Raises:
            RowsTooLargeError: The rows are too large.
        """
        ...


class PendingCommit(Protocol):
    """A commit that has been sent to the store. ``result`` must be called exactly once."""

    def result(self) -> CommitOutcome:
        """Wait for the outcome. If the segment is at the new checkpoint now, move the lease's checkpoint too."""
        ...


class ReadModelStore(Protocol):
    """A store of read models. Every commit is all or nothing."""

    def begin_load(
        self,
        projection: Projection[Any, Any],
        segment: Segment,
        keys: set[str],
        groups: set[str],
        parkable: set[str],
    ) -> PendingLoad:
        """Request the stored state that a fold requires. The caller can work until it needs the state.

        Args:
            projection: The projection of the segment.
            segment: The segment.
            keys: Keys of rows to load.
            groups: Groups whose members and rows to load.
            parkable: Keys that may be parked. The result names the parked keys among them.
        """
        ...

    def prepare(self, segment: Segment, mutations: Mutations) -> None:
        """Do the part of ``begin_commit`` that needs no server, while another commit is pending."""
        ...

    def begin_commit(self, lease: Lease, progress: Progress, mutations: Mutations) -> PendingCommit:
        """Send the changes and the new checkpoint, all or nothing. The caller can work until it needs the outcome."""
        ...

    def parked_entries(self, segment: Segment, key: str, limit: int) -> Sequence[LogEntry]:
        """Return the first ``limit`` entries that are parked under a key, in order."""
        ...

    def commit_retry(self, lease: Lease, key: str, done: int, mutations: Mutations) -> CommitOutcome:
        """Commit changes and remove the first ``done`` entries that are parked under a key. The checkpoint stays."""
        ...

    def retry_requests(self, segment: Segment) -> Iterable[str]:
        """Return the parked keys for which an operator has requested a retry."""
        ...
