"""The commits to a read model, as an API process receives them: in order for each log.

Each commit belongs to one build of a read model and to one log. The commit ids give the order within the log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from projections.versions import Build


class CommitId(NamedTuple):
    """The id of a commit within its log. Every commit has a higher id than the commit before it.

    Several commits can have the same checkpoint, because a commit of parked events does not move the checkpoint.
    """

    position: int
    """The checkpoint after the commit: the position up to which the log is folded."""
    number: int = 0
    """Number of the commit among the commits with this checkpoint, from 0."""


CommitIds = Mapping[str, CommitId]
"""Log -> id of the last known commit."""


class RowChange(NamedTuple):
    """The change of one row: its document before and after the commit.

    A document is None where the row does not exist. ``old`` is also None where the old document is unknown.
    """

    key: str
    old: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit to one build of a read model."""

    build: Build
    log: str
    id: CommitId
    recorded_at: float | None
    """Time at which the last folded event was recorded, in epoch seconds. None for a commit of parked events."""
    changes: Sequence[RowChange]
    knows_old: bool
    """Whether the old documents of the changes are known. If False, ``old`` is None in every change."""
    traces: tuple[str, ...] = ()
    """The traces to which the commit belongs, each as a ``traceparent``."""


class CommitListener(Protocol):
    """A receiver of the commits to one read model.

    Both methods are called in the event loop of the process and must not block.
    """

    def start_build(self, build: Build, last_commits: CommitIds) -> None:
        """Start with a build, directly after its ``last_commits``.

        There may be a gap between commits that were received earlier and this point.

        Args:
            build: The build that answers from now on.
            last_commits: The commits directly before the next commits to be received.
        """
        ...

    def receive(self, commit: Commit) -> None:
        """Receive the next commit of a log."""
        ...
