"""The recorder: turns messages into events in the log, and what cannot be read into dead letters.

The one path that every message takes, whichever way it came in.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice

import structlog

from domain.announcements import DeadLetter, Message, Receipt, RecordedEvent
from domain.codec import encode, topic_of
from domain.events import Event
from domain.streams import log_of
from domain.wire import ReadResult, Refusal, read
from infra.log.event_log import EventLog, NewEvent
from infra.recording.dead_letters import DeadLetters, letter_id, reasons

logger = structlog.get_logger()


class Recorder:
    """Records messages in the market's logs."""

    def __init__(self, logs: Mapping[str, EventLog], dead_letters: DeadLetters, max_message_bytes: int) -> None:
        self._logs = logs
        self._dead_letters = dead_letters
        self._max_message_bytes = max_message_bytes

    def record(self, messages: Sequence[Message]) -> list[Receipt]:
        """Record each message; when this returns, every event and every dead letter is as safe as configured.

        Raises what the log raises when it cannot append; repeating the call is safe, as events are known by their ids.
        """
        readings = [self._read(message) for message in messages]
        recorded = self._append_read(readings, list(map(_origin, messages, readings)))
        letters = [
            _letter(message, reading.refusals)
            for message, reading in zip(messages, readings, strict=True)
            if reading.refusals
        ]
        if letters:
            self._keep(letters)
        return [
            _receipt(message, reading, events)
            for message, reading, events in zip(messages, readings, recorded, strict=True)
        ]

    def retry(self, letter: DeadLetter) -> Receipt:
        """Try a dead letter again; it is removed if all of it can be read now."""
        message = Message(letter.channel, letter.payload, letter.received_at, letter.via)
        reading = self._read(message)
        recorded = self._append_read([reading], [f"retry {letter.id}"])
        if reading.refusals:
            self._dead_letters.refused_again(letter, reading.refusals)
        else:
            self._dead_letters.discard(letter.id)
        return _receipt(message, reading, recorded[0])

    def _read(self, message: Message) -> ReadResult:
        return read(message.channel, message.payload, message.received_at, max_bytes=self._max_message_bytes)

    def record_events(self, events: Sequence[Event], origin: str) -> list[RecordedEvent]:
        """Record events that were not read from a message; ``origin`` says how they came in. Raises as ``record``."""
        return self._append([(event, origin) for event in events])

    def _append(self, events: Sequence[tuple[Event, str]]) -> list[RecordedEvent]:
        """Append events with their origins, those of each log at once; their places."""
        by_log: dict[str, list[int]] = defaultdict(list)
        for number, (event, _) in enumerate(events):
            by_log[log_of(event.stream, len(self._logs))].append(number)
        recorded: dict[int, RecordedEvent] = {}
        for log, numbers in by_log.items():
            appended = self._logs[log].append([_new_event(*events[number]) for number in numbers])
            for number, place in zip(numbers, appended, strict=True):
                event, _ = events[number]
                recorded[number] = RecordedEvent(event.event_id, type(event).__name__, event.stream, log, *place)
        return [recorded[number] for number in range(len(events))]

    def _append_read(self, readings: Sequence[ReadResult], origins: Sequence[str]) -> list[list[RecordedEvent]]:
        """Append the events of all readings; their places, by reading."""
        places = iter(
            self._append(
                [(event, origin) for reading, origin in zip(readings, origins, strict=True) for event in reading.events]
            )
        )
        return [list(islice(places, len(reading.events))) for reading in readings]

    def _keep(self, letters: Sequence[DeadLetter]) -> None:
        dropped = self._dead_letters.keep(letters)
        for letter in letters:
            logger.warning("dead letter", id=letter.id, channel=letter.channel, via=letter.via, reason=letter.reason)
        if dropped:
            logger.error("dead letters dropped for want of room", dropped=dropped)


def _new_event(event: Event, origin: str) -> NewEvent:
    return NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id, origin=origin)


def _origin(message: Message, reading: ReadResult) -> str:
    """How the message came in, and the letter that keeps what of it could not be read."""
    if not reading.refusals:
        return message.via
    return f"{message.via} {letter_id(message.channel, message.payload)}"


def _letter(message: Message, refusals: Sequence[Refusal]) -> DeadLetter:
    return DeadLetter(
        letter_id(message.channel, message.payload),
        message.channel,
        message.payload,
        refusals[0].code,
        reasons(refusals),
        message.received_at,
        message.via,
    )


def _receipt(message: Message, reading: ReadResult, events: Sequence[RecordedEvent]) -> Receipt:
    letter = letter_id(message.channel, message.payload) if reading.refusals else None
    return Receipt(tuple(events), reading.refusals, letter)
