"""One append: the events, their call of the server-side function ``append``, and their places in the log."""

from collections.abc import Callable, Sequence
from secrets import token_urlsafe
from typing import Any, NamedTuple

import msgspec
from eventsourcing.persistence import Tracking

from domain.partitions import Partitions
from infra.log.durability import DurableCall
from infra.log.errors import LogNotOpenError, StreamElsewhereError, TrackingConflictError, VersionConflictError
from infra.log.handle import LogHandle
from infra.log.partitions import parse_partitions
from infra.redis.functions import Argument

MAX_OPEN_ATTEMPTS = 3
"""Highest number of times that one append opens the log. The server may be replaced between two attempts."""


class NewEvent(NamedTuple):
    """An event to append."""

    stream: str
    topic: str
    state: bytes
    event_id: str = ""
    """The log drops an event whose id it remembers. An event without an id is never a duplicate."""
    expected_version: int | None = None
    """The version that the event must get; None for the next version of the stream."""
    origin: str = ""
    """The way by which the event arrived: see ``LogEntry``."""
    content: str = ""
    """A digest of the content that has the id, without blanks. Empty: the content is not compared."""


class Appended(NamedTuple):
    """The position and the version of an appended event. A duplicate has the values of the original event."""

    position: int
    version: int
    duplicate: bool
    differs: bool = False
    """True for a duplicate whose original event has other content."""


class PendingAppend:
    """An append to a log. The constructor sends it.

    Args:
        log: The log.
        open_log: Opens the log for appends. It raises LogNotOpenError or LogDivergedError.
        events: The events in the order in which they get their positions.
        tracking: The position of another application from which the events follow.
        partitions: The number of partitions of the market log by which the caller has found this log.

    Raises:
        UnsuitableServerError: The server cannot provide the durability. Nothing was appended.
        ValueError: A name of an event contains a NUL character, which PostgreSQL cannot store.
    """

    def __init__(
        self,
        log: LogHandle,
        open_log: Callable[[], None],
        events: Sequence[NewEvent],
        tracking: Tracking | None,
        partitions: Partitions | None,
    ) -> None:
        self._log = log
        self._open_log = open_log
        self._events = events
        self._tracking = tracking
        _check_names(events)
        keys, streams = log.keys, dict.fromkeys(event.stream for event in events)
        self._keys = [keys.log, keys.meta, keys.versions, keys.tracking, *map(keys.stream, streams)]
        self._arguments: list[Argument] = [
            *(keys.ids_prefix, log.dedupe_window),
            *((tracking.application_name, tracking.notification_id) if tracking else ("", 0)),
            *(token_urlsafe(12), "" if partitions is None else str(partitions)),
            *_pack(events),
        ]
        self._call = self._send()

    def result(self) -> list[Appended]:
        """Wait for the places of the events. The errors are those of ``EventLog.append``.

        Call either this method or ``wait`` exactly once, because the append occupies a connection until then.
        """
        for attempt in range(MAX_OPEN_ATTEMPTS):
            call = self._send() if attempt else self._call
            outcome, *numbers = call.result()
            if outcome != b"unopened":
                return self._places(outcome, numbers)
            self._open_log()
        raise LogNotOpenError(
            f"The server of log {self._log.name} was replaced {MAX_OPEN_ATTEMPTS} times during one append. "
            "Append again."
        )

    def wait(self) -> None:
        """Wait until the append has succeeded or failed, or the connection is lost, without a need of the places."""
        self._call.wait()

    def _send(self) -> DurableCall:
        functions = self._log.functions
        return functions.begin("append", self._keys, self._arguments, despite_oom=self._log.records_when_full)

    def _places(self, outcome: bytes, numbers: Sequence[Any]) -> list[Appended]:
        if outcome == b"appended":
            triples = zip(*[iter(numbers)] * 3, strict=True)
            return [Appended(position, version, kind > 0, kind > 1) for position, version, kind in triples]
        if outcome == b"elsewhere":
            raise StreamElsewhereError(self._log.name, parse_partitions(numbers[0]))
        if outcome == b"tracked":
            raise TrackingConflictError(
                f"{self._tracking} is not after the tracking position {numbers[0]} in log {self._log.name}"
            )
        event, last = self._events[numbers[0]], numbers[1]
        state = "is empty" if last < 0 else f"is at version {last}"
        raise VersionConflictError(
            f"stream {event.stream} of log {self._log.name} {state}: its next event cannot be version "
            f"{event.expected_version}"
        )


def _pack(events: Sequence[NewEvent]) -> tuple[bytes, bytes]:
    """Return the arguments ``events`` and ``states`` of ``append.lua``."""
    elements = [
        # The client repeats a call whose reply is lost. A random id makes the log drop the repeated event.
        (stream, topic, len(state), event_id or token_urlsafe(12), expected_version, origin, content)
        for stream, topic, state, event_id, expected_version, origin, content in events
    ]
    return msgspec.msgpack.encode(elements), b"".join([event.state for event in events])


def _check_names(events: Sequence[NewEvent]) -> None:
    for event in events:
        if "\0" in event.stream + event.topic + event.event_id + event.origin:
            raise ValueError(
                "The stream, topic, id and origin of an event must not contain a NUL character: "
                f"{event._replace(state=b'')}"
            )
