"""Batches of log entries in the stages of their folding: decoded, received, loaded and folded."""

from typing import NamedTuple

from domain.log import LogEntry
from infra.log.event_log import PendingRead
from projections.decoding import DecodedEntry
from projections.fold import FoldResult, LoadedState
from projections.mutations import Mutations
from projections.ports import PendingLoad


class DecodedBatch(NamedTuple):
    """Entries of the log, and those that the projection handles, decoded."""

    entries: list[LogEntry]
    decoded: list[DecodedEntry]
    has_more: bool
    """True if the batch ended because of its size: the log may have further entries."""

    def first(self, number: int) -> "DecodedBatch":
        """Return the batch of the first ``number`` entries."""
        entries = self.entries[:number]
        decoded = [each for each in self.decoded if each.entry.position <= entries[-1].position]
        return DecodedBatch(entries, decoded, has_more=True)


class LoadedBatch(NamedTuple):
    """Entries of the log, decoded, with the rows that they may change."""

    entries: list[LogEntry]
    decoded: list[DecodedEntry]
    loaded: LoadedState
    is_cut: bool
    """Whether entries were left out, because the rows of all entries that were read are too large for one batch."""
    has_more: bool


class ReceivedBatch(NamedTuple):
    """Decoded entries of the log. Their rows and the entries behind them were received, and are not decoded yet."""

    batch: DecodedBatch
    load: PendingLoad
    following: PendingRead | None
    """None: the log has no further entries."""


class FoldedBatch(NamedTuple):
    """A batch that can be committed if the segment's checkpoint is ``after``."""

    after: int
    entries: list[LogEntry]
    folded: FoldResult
    mutations: Mutations
    has_more: bool
