"""Recorder: turns messages into events in the log, and unreadable messages into dead letters.

Every message takes this path, from pub/sub, from the ingest stream or over HTTP.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import structlog

from domain.announcements import DeadLetter, Message, Receipt, RecordedEvent
from domain.codec import encode, topic_of
from domain.default_expiry import add_default_end
from domain.events import Event
from domain.origins import format_origin, parse_origin
from domain.wire import DEFAULT_CONVENTIONS, Bounds, Conventions, ReadResult, Refusal, preview, read, shorten
from infra.log.append import NewEvent
from infra.log.directory import LogDirectory
from infra.recording.dead_letters import DeadLetters, join_reasons, letter_id
from infra.recording.event_appender import EventAppender
from infra.recording.pending import Pending, Steps, complete

logger = structlog.get_logger()

SEARCHED_EVENTS = 1_000
"""Number of events at the end of a partition among which the last event of a way is searched."""


class ReadMessages(NamedTuple):
    """Messages that were read and not recorded yet."""

    messages: Sequence[Message]
    readings: Sequence[ReadResult]


class Recorder:
    """Records messages in the market log.

    Args:
        logs: The logs, with all partitions of the market log.
        dead_letters: The store of dead letters.
        bounds: The bounds of messages. Their present time is that of the call.
        conventions: The conventions of producers.
        default_expiry: Tier -> seconds after which a detection without an end expires. See ``add_default_end``.
    """

    def __init__(
        self,
        logs: LogDirectory,
        dead_letters: DeadLetters,
        bounds: Bounds,
        conventions: Conventions = DEFAULT_CONVENTIONS,
        default_expiry: Mapping[str, float] | None = None,
    ) -> None:
        self._logs = logs
        self._appender = EventAppender(logs)
        self._dead_letters = dead_letters
        self._bounds = bounds
        self._conventions = conventions
        self._default_expiry = default_expiry or {}

    def record(self, messages: Sequence[Message]) -> list[Receipt]:
        """Record messages. On return, every event and every dead letter is as durable as configured.

        Repeating a call is safe, because the log recognizes events by their ids.

        Raises:
            RedisError: The log or the dead letters cannot be written.
            PersistenceError: The log cannot append, or a dead letter is not durable.
        """
        return complete(self._recording(self.read(messages)))

    def read(self, messages: Sequence[Message]) -> ReadMessages:
        """Read messages, the part of ``record`` that needs no server."""
        # Not the time of receipt: the producer chooses it by the id of an entry of the ingest stream.
        bounds = self._bounds._replace(now=time.time())
        readings = [
            read(message.channel, message.payload, message.received_at, bounds, self._conventions)
            for message in messages
        ]
        return ReadMessages(messages, list(map(self._add_default_ends, readings)) if self._default_expiry else readings)

    def begin(self, read_messages: ReadMessages) -> Pending[list[Receipt]]:
        """Send the events of messages to the log, and return without waiting. The errors are those of ``record``.

        Read the next messages during the append, but call ``begin`` for them only after ``result``: messages that are
        sent at the same time have no order.
        """
        return Pending(self._recording(read_messages))

    def retry(self, letter: DeadLetter) -> Receipt:
        """Read a dead letter again and record its events. Discard the dead letter if nothing is refused now.

        The items of a batch that are recorded already are left out: the log forgets their ids after the dedupe window.
        """
        message = Message(letter.channel, letter.payload, letter.received_at, letter.via, letter.sender)
        [reading] = self.read([message]).readings
        reading = reading.without(letter.recorded_items)
        origins = _retry_origins(letter, reading)
        [receipt] = complete(self._append_readings(ReadMessages([message], [reading]), [origins]))
        receipt = receipt._replace(recorded_items=letter.recorded_items | receipt.recorded_items)
        if receipt.refusals:
            self._dead_letters.record_failed_retry(letter, receipt)
        else:
            self._dead_letters.discard(letter.id)
        return receipt

    def refuse(self, message: Message, refusal: Refusal) -> None:
        """Store a message as a dead letter without reading it. Raises RedisError or PersistenceError."""
        self._store([_letter(message, [refusal])])

    def record_events(self, events: Sequence[Event], origin: str) -> list[RecordedEvent]:
        """Record events that do not come from a message.

        Args:
            events: The events, in order.
            origin: The origin that the log stores with the events. See ``LogEntry``.

        Raises:
            RedisError: The log cannot be written.
            PersistenceError: The log cannot append.
        """
        recorded = self._appender.append(events, [_new_event(event, origin) for event in events])
        return [event for event in recorded if event]

    def last_recorded(self, via: str) -> float | None:
        """Return the time of the last event that arrived by a way, in epoch seconds. None: no such event was found.

        A server that has lost events gets them back from the archive before the search. The search covers the last
        ``SEARCHED_EVENTS`` events of each partition.

        Args:
            via: The way: ``http``, ``pubsub`` …

        Raises:
            RedisError: The log cannot be read.
            PersistenceError: The log cannot be opened.
        """
        times: list[float] = []
        for log in self._logs.market.values():
            log.open()
            entries = log.read(log.head() - SEARCHED_EVENTS, SEARCHED_EVENTS)
            times += [entry.recorded_at for entry in entries if parse_origin(entry.origin).via == via]
        return max(times, default=None)

    def _recording(self, read_messages: ReadMessages) -> Steps[list[Receipt]]:
        """Append the events of messages, then store the dead letters."""
        messages, readings = read_messages
        traces = [reading.trace or message.trace for message, reading in zip(messages, readings, strict=True)]
        receipts = yield from self._append_messages(read_messages, traces)
        letters = [
            _letter(message, receipt.refusals, receipt.recorded_items)
            for message, receipt in zip(messages, receipts, strict=True)
            if receipt.refusals
        ]
        if letters:
            self._store(letters)
        return receipts

    def _add_default_ends(self, reading: ReadResult) -> ReadResult:
        return reading._replace(events=tuple(add_default_end(event, self._default_expiry) for event in reading.events))

    def _append_messages(self, read_messages: ReadMessages, traces: Sequence[str | None]) -> Steps[list[Receipt]]:
        """Append the events of messages. Return the receipt of each message.

        Args:
            read_messages: The messages.
            traces: The ``traceparent`` that the origins of the events of each message name, or None.
        """
        return self._append_readings(read_messages, list(map(_origins, *read_messages, traces)))

    def _append_readings(self, read_messages: ReadMessages, origins: Sequence[Sequence[str]]) -> Steps[list[Receipt]]:
        """Append the events of all messages at once. Return the receipt of each message.

        Args:
            read_messages: The messages.
            origins: For each message the origins of its events.
        """
        messages, readings = read_messages
        new_events = [
            _new_event(event, origin, content)
            for reading, origins_of_events in zip(readings, origins, strict=True)
            for event, origin, content in zip(reading.events, origins_of_events, reading.contents, strict=True)
        ]
        events = [event for reading in readings for event in reading.events]
        recorded = iter((yield from self._appender.appending(events, new_events)))
        return [
            _receipt(message, reading, tuple(islice(recorded, len(reading.events))))
            for message, reading in zip(messages, readings, strict=True)
        ]

    def _store(self, letters: Sequence[DeadLetter]) -> None:
        dropped = self._dead_letters.store(letters)
        for letter in letters:
            logger.warning(
                "dead letter stored", id=letter.id, channel=letter.channel, via=letter.via, reason=letter.reason
            )
        if dropped:
            logger.error("old dead letters dropped", dropped=dropped)


def _receipt(message: Message, reading: ReadResult, recorded: tuple[RecordedEvent | None, ...]) -> Receipt:
    """Return the receipt of a message. An event whose id belongs to another content is a refusal."""
    places = tuple(place for place in recorded if place)
    refusals = reading.refusals
    if len(places) < len(recorded):
        refusals += _same_ids(reading, recorded)
    if not refusals:
        return Receipt(places, refusals, None)
    items = sum(1 << item for item, place in zip(reading.items, recorded, strict=True) if place)
    return Receipt(places, refusals, letter_id(message.channel, message.payload), items)


def _same_ids(reading: ReadResult, recorded: tuple[RecordedEvent | None, ...]) -> tuple[Refusal, ...]:
    refusals = [
        Refusal("same-id", f"the event_id {preview(event.event_id)} was recorded before: same id, other content")
        for event, place in zip(reading.events, recorded, strict=True)
        if place is None
    ]
    return tuple(shorten(refusals))


def _new_event(event: Event, origin: str, content: str = "") -> NewEvent:
    topic = topic_of(type(event))
    return NewEvent(event.stream, topic, encode(event), event.event_id, origin=origin, content=content)


def _origins(message: Message, reading: ReadResult, trace: str | None) -> list[str]:
    """Return the origins of a message's events, with the id of the dead letter if a part of the message was refused."""
    letter = letter_id(message.channel, message.payload) if reading.refusals else None
    return [format_origin(message.via, message.sender, letter, percent, trace) for percent in reading.percent]


def _retry_origins(letter: DeadLetter, reading: ReadResult) -> list[str]:
    return [format_origin("retry", letter.sender, letter.id, percent, reading.trace) for percent in reading.percent]


def _letter(message: Message, refusals: Sequence[Refusal], recorded_items: int = 0) -> DeadLetter:
    return DeadLetter(
        letter_id(message.channel, message.payload),
        message.channel,
        message.payload,
        refusals[0].code,
        join_reasons(refusals),
        message.received_at,
        message.via,
        sender=message.sender,
        recorded_items=recorded_items,
    )
