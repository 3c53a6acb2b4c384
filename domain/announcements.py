"""Announcements of producers and the results of recording them: messages, receipts and dead letters."""

from typing import NamedTuple

from domain.wire import Refusal


class Message(NamedTuple):
    """A message as TickView received it."""

    channel: str
    payload: bytes
    received_at: float
    """Time of receipt in seconds since the epoch."""
    via: str
    """The way by which the message arrived: ``pubsub``, ``stream`` or ``http``."""
    sender: str = ""
    """The words of an origin that name the sender (``domain.origins.Sender``). Empty: the way does not tell."""
    trace: str | None = None
    """The ``traceparent`` that came beside the payload. None: there was none. One in the payload comes first."""


class RecordedEvent(NamedTuple):
    """The place of one event in its log and in its stream."""

    event_id: str
    type: str
    """Name of the event class, for example ``PatternDetected``."""
    stream: str
    log: str
    position: int
    """Position in the log, from 1."""
    version: int
    """Version of the stream, from 1."""
    duplicate: bool
    """True if the log already had an event with this id. Position and version then belong to the first event."""


class Receipt(NamedTuple):
    """The result of recording one message."""

    events: tuple[RecordedEvent, ...]
    refusals: tuple[Refusal, ...]
    dead_letter: str | None
    """Id of the dead letter that holds the message. None if TickView refused nothing in the message."""
    recorded_items: int = 0
    """The items of a partly refused batch that are recorded, by this attempt or an earlier attempt. Bit n stands for
    the item n, from 0. The value is 0 if no attempt had a refusal."""


class DeadLetter(NamedTuple):
    """A message that TickView could not read, or could read only in part."""

    id: str
    channel: str
    payload: bytes
    """The bytes of the message, unchanged unless they are too many. Empty in a list of dead letters."""
    code: str
    """The code of the first refusal."""
    reason: str
    """The reasons of all refusals in one line."""
    received_at: float
    """Time of receipt in seconds since the epoch."""
    via: str
    """The way by which the message arrived: ``pubsub``, ``stream`` or ``http``."""
    number: int = 0
    """Running number of the dead letter, from 1. 0 before it is stored."""
    times: int = 1
    """Number of times that TickView received this message."""
    retries: int = 0
    """Number of retries that an operator requested."""
    payload_bytes: int = 0
    """Number of stored bytes of the message. 0 before it is stored."""
    sender: str = ""
    """The words of an origin that name the first sender of the message. Empty: the way does not tell."""
    recorded_items: int = 0
    """The items of a batch that are recorded, which a retry leaves out. Bit n stands for the item n, from 0."""
