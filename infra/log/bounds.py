"""Bounds in bytes of what is read, appended or committed at once. Bounds in events alone do not bound the memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

BATCH_BYTES = 8 * 1024 * 1024
"""Number of bytes of states in one batch. A batch of one event may have more."""


class _HasState(Protocol):
    @property
    def state(self) -> bytes: ...


Event = TypeVar("Event", bound=_HasState)


def size_of(events: Iterable[_HasState]) -> int:
    """Return the number of bytes of the states of events."""
    return sum(len(event.state) for event in events)


def is_full(events: Sequence[_HasState], limit: int) -> bool:
    """Return whether a batch may have ended because of a bound, so that further events may follow it."""
    return len(events) >= limit or size_of(events) >= BATCH_BYTES // 2


def entries_within(limit: int, entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> int:
    """Return how many stream entries of the mean size of these entries have at most ``limit`` bytes. At least 1.

    Redis bounds the entries of one read by their number only.

    Args:
        limit: The number of bytes.
        entries: Entries with their ids and fields. At least one.
    """
    mean = sum(len(value) for _, fields in entries for value in fields.values()) // len(entries) + 1
    return max(1, limit // mean)


def split_by_bytes(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Split events into batches of at most ``BATCH_BYTES``, or of one event."""
    batch: list[Event] = []
    size = 0
    for event in events:
        if batch and size + len(event.state) > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += len(event.state)
    if batch:
        yield batch
