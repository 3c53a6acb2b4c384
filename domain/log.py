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
    origin: str = ""
    """How it came in: ``pubsub``, ``stream``, ``http``, ``retry``, ``expirer``, ``catalogue``; behind it, after a
    space, the id of the dead letter that keeps what could not be read of the same message. Empty where nobody said."""
