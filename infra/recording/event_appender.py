"""The appending of events to the logs of their streams. The appends to several logs are under way at the same time."""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from domain.announcements import RecordedEvent
from domain.events import Event, UndatedExpiry
from domain.partitions import Partitions
from infra.log.append import Appended, NewEvent, PendingAppend
from infra.log.bounds import split_by_bytes
from infra.log.directory import LogDirectory
from infra.log.errors import StreamElsewhereError
from infra.log.event_log import EventLog
from infra.log.routing import StreamRouter
from infra.recording.pending import Steps, complete
from infra.recording.undated_expiries import append_undated, in_waves

ROUTING_ATTEMPTS = 5
"""Highest number of attempts to append to the logs of the streams. An attempt fails while the number of partitions of
the market log is raised."""

APPENDS_AT_ONCE = 8
"""Highest number of logs to which appends are under way at the same time. Each occupies a connection and the memory of
its events."""

_Places = Callable[[], list[tuple[Event, Appended]]]
"""Waits until events are appended to a log. Returns the recorded events and their places."""

Recorded = dict[int, RecordedEvent | None]
"""Number of an event in its batch -> its place. None: the log has another event with the id."""


class EventAppender:
    """Appends events to the logs of their streams, in order per stream.

    Args:
        logs: The logs, with all partitions of the market log.
    """

    def __init__(self, logs: LogDirectory) -> None:
        self._logs = logs
        self._router = StreamRouter(logs)

    def append(self, events: Sequence[Event], new_events: Sequence[NewEvent]) -> list[RecordedEvent | None]:
        """Append events and wait for their places. Parameters, result and errors are those of ``appending``."""
        return complete(self.appending(events, new_events))

    def appending(self, events: Sequence[Event], new_events: Sequence[NewEvent]) -> Steps[list[RecordedEvent | None]]:
        """Append events in steps, with one append per log, or several if the events are large.

        Args:
            events: The events.
            new_events: The same events as the log stores them, in the same order.

        Returns:
            The result in the order of the events. None: the log has another event with the id.

        Raises:
            RedisError: A log cannot be written. Other logs may have their events.
            PersistenceError: A log cannot append. Other logs may have their events.
        """
        recorded: Recorded = {}
        for wave in in_waves(events):
            numbers: Sequence[int] = wave
            for attempt in range(ROUTING_ATTEMPTS):
                refusal = yield from self._append_routed(events, new_events, numbers, recorded)
                if refusal is None:
                    break
                if attempt == ROUTING_ATTEMPTS - 1:
                    raise refusal
                self._router.settle(refusal)
                numbers = [number for number in numbers if number not in recorded]
        return [recorded[number] for number in range(len(events))]

    def _append_routed(
        self, events: Sequence[Event], new_events: Sequence[NewEvent], numbers: Sequence[int], recorded: Recorded
    ) -> Steps[StreamElsewhereError | None]:
        """Append events of a wave, and note them in ``recorded``. Return a refusal, if there was one."""
        routes = self._router.route(new_events[number].stream for number in numbers)
        numbers_by_log: dict[str, list[int]] = defaultdict(list)
        for number in numbers:
            numbers_by_log[routes.logs[new_events[number].stream]].append(number)
        refusal: StreamElsewhereError | None = None
        under_way: deque[_LogAppend] = deque()
        try:
            for log, own in numbers_by_log.items():
                if len(under_way) == APPENDS_AT_ONCE:
                    yield
                    refusal = under_way.popleft().finish(recorded) or refusal
                begin = _begin_undated if isinstance(events[own[0]], UndatedExpiry) else _begin_append
                pairs = [(events[number], new_events[number]) for number in own]
                under_way.append(_LogAppend(log, own, *begin(self._logs[log], pairs, routes.partitions)))
            yield
            while under_way:
                refusal = under_way.popleft().finish(recorded) or refusal
        finally:
            # After a failure, or if the steps end here: the next batch must not overtake the events of this one.
            for append in under_way:
                if append.sent:
                    append.sent.wait()
        return refusal


class _LogAppend(NamedTuple):
    """The append of events to one log, which is under way."""

    log: str
    numbers: list[int]
    sent: PendingAppend | None
    """The call under way. None: the events are sent when their places are needed."""
    places: _Places

    def finish(self, recorded: Recorded) -> StreamElsewhereError | None:
        """Wait for the places of the events, and note them in ``recorded``. Return a refusal, if there was one."""
        try:
            places = self.places()
        except StreamElsewhereError as refusal:
            return refusal
        for number, (event, place) in zip(self.numbers, places, strict=True):
            recorded[number] = None if place.differs else _recorded_event(event, self.log, place)
        return None


def _begin_append(
    log: EventLog, pairs: Sequence[tuple[Event, NewEvent]], partitions: Partitions
) -> tuple[PendingAppend, _Places]:
    """Send the events, or the first of them if they are large."""
    first, *others = split_by_bytes([new_event for _, new_event in pairs])
    append = log.begin_append(first, partitions=partitions)

    def wait() -> list[tuple[Event, Appended]]:
        places = append.result()
        for batch in others:
            places += log.append(batch, partitions=partitions)
        return [(event, place) for (event, _), place in zip(pairs, places, strict=True)]

    return append, wait


def _begin_undated(
    log: EventLog, pairs: Sequence[tuple[Event, NewEvent]], partitions: Partitions
) -> tuple[None, _Places]:
    """Append undated expiries when their places are needed: they are few, and each must be dated first."""
    return None, partial(append_undated, log, pairs, partitions)


def _recorded_event(event: Event, log: str, place: Appended) -> RecordedEvent:
    return RecordedEvent(
        event.event_id, type(event).__name__, event.stream, log, place.position, place.version, place.duplicate
    )
