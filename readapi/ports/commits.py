"""What the workers commit to a read model, as it comes to an API process: from mark to mark of each log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from projections.versions import Build


class Mark(NamedTuple):
    """Where a commit stands among those of its log: the checkpoint that it led to, and which of that checkpoint it is.

    More than one commit leads to the same checkpoint where parked events were folded after it.
    """

    position: int
    number: int = 0


Marks = Mapping[str, Mark]
"""Log -> the last commit known of it."""


class RowChange(NamedTuple):
    """What became of one row: its document before and after; None where there is none, or where none is known."""

    key: str
    old: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit to one build of a read model."""

    build: Build
    log: str
    mark: Mark
    recorded_at: float | None
    """When the last event that it folded was recorded, in epoch seconds; None where parked events were folded."""
    changes: Sequence[RowChange]
    knows_old: bool
    """Whether the old documents are those the rows had; else nothing is known of them."""


class CommitListener(Protocol):
    """Who wants to hear of the commits to one read model, in the event loop of the process. Neither method may wait."""

    def begin(self, build: Build, marks: Marks) -> None:
        """From now on, commits of ``build`` behind ``marks`` are told; those told before do not lead there."""
        ...

    def hear(self, commit: Commit) -> None:
        """The next commit of its log."""
        ...
