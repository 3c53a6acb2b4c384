"""What a log holds: the entries, as they are stored and read."""

from typing import NamedTuple


class LogEntry(NamedTuple):
    """One entry of a log."""

    position: int
    """From 1, gapless."""
    stream: str
    version: int
    """Position in the stream, gapless."""
    topic: str
    event_id: str
    recorded_at: float
    """Seconds since the epoch by the log's own clock; never decreases along a log."""
    state: bytes
