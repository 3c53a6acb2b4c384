"""The entries of an event log, in the form in which a log stores and returns them."""

from typing import NamedTuple


class LogEntry(NamedTuple):
    """One entry of a log: a serialized event with its place and the time of recording."""

    position: int
    """Position in the log, from 1, without gaps."""
    stream: str
    version: int
    """Version of the stream: the position of the event in its stream, from 1, without gaps."""
    topic: str
    """Stored name of the event type. See ``domain.codec.topic_of``."""
    event_id: str
    recorded_at: float
    """Time of recording in seconds since the epoch, by the clock of the log. It never decreases along a log."""
    state: bytes
    """The serialized event. See ``domain.codec.encode``."""
    origin: str = ""
    """The way by which the event arrived: ``pubsub``, ``stream``, ``http``, ``retry``, ``expirer``, ``alert``,
    ``catalogue`` or ``cli``.

    Empty if the way is unknown. The sender and the id of a dead letter may follow (``domain.origins``).
    """
