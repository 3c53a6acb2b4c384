"""The appending of expiries that do not name the time of their detection, in their order among the other events."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import cast

from domain.codec import encode, topic_of
from domain.events import Event, UndatedExpiry
from domain.partitions import Partitions
from infra.log.append import Appended, NewEvent
from infra.log.bounds import split_by_bytes
from infra.log.errors import VersionConflictError
from infra.log.event_log import EventLog
from infra.recording.latest_detections import resolve

APPEND_ATTEMPTS = 10
"""Highest number of attempts to append. An attempt fails if another event of the symbol comes in between."""


def in_waves(events: Sequence[Event]) -> Iterator[list[int]]:
    """Divide events into waves that are appended one after the other. Yield the numbers of the events of each wave.

    An undated expiry must see the earlier events of its symbol, and only those. A wave has either undated expiries, at
    most one of each symbol, or other events. Without undated expiries there is one wave.
    """
    if not any(isinstance(event, UndatedExpiry) for event in events):
        yield list(range(len(events)))
        return
    last: dict[str, int] = {}
    waves: dict[int, list[int]] = defaultdict(list)
    for number, event in enumerate(events):
        before = last.get(event.stream, 0)
        is_odd = before % 2 == 1
        wave = before + (2 if is_odd else 1) if isinstance(event, UndatedExpiry) else before + is_odd
        last[event.stream] = wave
        waves[wave].append(number)
    yield from (waves[wave] for wave in sorted(waves))


def append_undated(
    log: EventLog, expiries: Sequence[tuple[Event, NewEvent]], partitions: Partitions
) -> list[tuple[Event, Appended]]:
    """Append undated expiries, each as the expiry of the latest active detection if there is one.

    Args:
        log: The log of all expiries.
        expiries: The expiries and how the log stores them, each of another symbol.
        partitions: The number of partitions by which the log was found.

    Returns:
        The recorded events and their places.

    Raises:
        StreamElsewhereError: A new stream may be in another partition.
        VersionConflictError: Other events of the symbols came in between at each attempt. Another call may succeed.
    """
    recorded: list[tuple[Event, Appended]] = []
    for batch in split_by_bytes([new for _, new in expiries]):
        own = expiries[len(recorded) : len(recorded) + len(batch)]
        recorded += _append_batch(log, [cast("UndatedExpiry", event) for event, _ in own], batch, partitions)
    return recorded


def _append_batch(
    log: EventLog, expiries: Sequence[UndatedExpiry], new_events: Sequence[NewEvent], partitions: Partitions
) -> list[tuple[Event, Appended]]:
    attempt = 1
    while True:
        resolved = resolve(log, expiries)
        events = [
            new._replace(topic=topic_of(type(event)), state=encode(event), expected_version=version)
            for new, (event, version) in zip(new_events, resolved, strict=True)
        ]
        try:
            places = log.append(events, partitions=partitions)
        except VersionConflictError:
            if attempt == APPEND_ATTEMPTS:
                raise
            attempt += 1
        else:
            return [(event, place) for (event, _), place in zip(resolved, places, strict=True)]
