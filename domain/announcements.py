"""What producers send and what becomes of it: messages, receipts, dead letters."""

from typing import NamedTuple

from domain.wire import Refusal


class Message(NamedTuple):
    """A message as it came in."""

    channel: str
    payload: bytes
    received_at: float
    """Seconds since the epoch."""
    via: str
    """``pubsub``, ``stream`` or ``http``."""


class RecordedEvent(NamedTuple):
    """Where an event stands in the log."""

    event_id: str
    type: str
    stream: str
    log: str
    position: int
    version: int
    duplicate: bool
    """It was there before."""


class Receipt(NamedTuple):
    """What became of a message."""

    events: tuple[RecordedEvent, ...]
    refusals: tuple[Refusal, ...]
    dead_letter: str | None
    """The id of the letter that keeps the message, if something in it was refused."""


class DeadLetter(NamedTuple):
    """A message that could not be read, or not wholly."""

    id: str
    channel: str
    payload: bytes
    """The bytes as they came."""
    code: str
    """The kind of the first refusal."""
    reason: str
    """All reasons in one line."""
    received_at: float
    """Seconds since the epoch."""
    via: str
    """``pubsub``, ``stream`` or ``http``."""
    number: int = 0
    """Which of all letters ever kept it is; 0 before it is kept."""
    times: int = 1
    """How often it was heard."""
    retries: int = 0
