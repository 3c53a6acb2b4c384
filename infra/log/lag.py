"""The lag of a reader behind a log: of a read model, the archive, or a build that catches up."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from infra.log.entries import RawEntry


class Lag(NamedTuple):
    """The distance of a checkpoint from the head of its log."""

    events: int
    """Number of events behind the checkpoint."""
    seconds: float
    """Age of the oldest of these events, in seconds, rounded to milliseconds; 0 if there is none."""


def compute_lag(head: int, checkpoint: int, next_entries: Sequence[RawEntry]) -> Lag:
    """Compute the lag of a checkpoint.

    Args:
        head: The last position of the log.
        checkpoint: The position up to which the reader has processed the log.
        next_entries: The first entry of the log behind the checkpoint, if there is one
            (``XRANGE log (checkpoint-0 + COUNT 1``).
    """
    recorded_at = int(next_entries[0][1][b"recorded_at"]) / 1000 if next_entries else None
    seconds = 0.0 if recorded_at is None else round(max(0.0, time.time() - recorded_at), 3)
    return Lag(events_behind(head, checkpoint), seconds)


def events_behind(head: int, checkpoint: int) -> int:
    """Return the number of events between a checkpoint and the head of its log."""
    return max(0, head - checkpoint)
