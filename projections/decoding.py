"""The first step of the engine: it decodes log entries and determines the rows that the events address."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from domain.codec import decode, topic_of
from domain.events import Event, PatternEvent
from domain.horizon import is_from_the_future
from domain.log import LogEntry
from projections.base import Group, Projection

STREAM_KEY_PREFIX = "@"
"""The first character of the key of events that cannot be decoded. The name of their stream follows."""


class DecodedEntry(NamedTuple):
    """A log entry with its event and the rows that the event addresses, or with the error of decoding."""

    entry: LogEntry
    event: Event | None
    """The event. None: the entry cannot be decoded."""
    targets: tuple[str | Group, ...]
    """The keys and groups of rows that the projection's ``keys`` returned for the event."""
    error: str | None
    """The error of decoding. None: the entry was decoded."""
    needs_row: bool = False
    """Whether the event changes the row only if it exists: the event addressed the group of the row, not its key, or
    the key contains a time from the future."""


def decode_entries(projection: Projection[Any, Any], entries: Iterable[LogEntry]) -> list[DecodedEntry]:
    """Decode the entries that the projection handles and determine the rows that they address."""
    topics = {topic_of(event_type) for event_type in projection.handles}
    return [_decode_entry(projection, entry) for entry in entries if entry.topic in topics]


def _decode_entry(projection: Projection[Any, Any], entry: LogEntry) -> DecodedEntry:
    try:
        event = decode(entry.topic, entry.event_id, entry.state)
        if is_from_the_future(event.occurred_at, entry.recorded_at):
            event = event.model_copy(update={"occurred_at": entry.recorded_at})
        targets = tuple(projection.keys(event))
        return DecodedEntry(entry, event, targets, None, _depends_on_the_future(projection, entry, event, targets))
    except Exception as error:  # noqa: BLE001 any error of a projection parks the entry, so that no event is lost
        return DecodedEntry(entry, None, (), describe_error(error))


def _depends_on_the_future(
    projection: Projection[Any, Any], entry: LogEntry, event: Event, targets: tuple[str | Group, ...]
) -> bool:
    """Return whether the keys of the rows contain a time of detection from the future.

    Such a row would be the latest for ever. It cannot get another time, because later events name it by this time.
    """
    if not isinstance(event, PatternEvent) or not is_from_the_future(event.detected_at, entry.recorded_at):
        return False
    return targets != tuple(projection.keys(event.model_copy(update={"detected_at": entry.recorded_at})))


def required_keys(
    projection: Projection[Any, Any], entries: Iterable[DecodedEntry]
) -> tuple[set[str], set[str], set[str]]:
    """Collect the keys of the stored state that a fold of the entries requires.

    Returns:
        The keys of rows, the names of groups, and the keys that may be parked.
    """
    keys: set[str] = set()
    groups: set[str] = set()
    streams: set[str] = set()
    for decoded in entries:
        streams.add(STREAM_KEY_PREFIX + decoded.entry.stream)
        for target in decoded.targets:
            if isinstance(target, Group):
                groups.add(target.name)
            else:
                keys.add(target)
                if group := projection.group_of(target):
                    groups.add(group)
    return keys, groups, keys | streams


def decode_parked_entries(
    projection: Projection[Any, Any], key: str, entries: Iterable[LogEntry]
) -> list[DecodedEntry]:
    """Decode the parked entries of a key. Entries that are parked under the key of a row address only that row.

    A parked key is a member of its group, because it may become a row. Events that address the group are therefore
    parked behind it. If it becomes no row, they must not create one.
    """
    decoded = [_decode_entry(projection, entry) for entry in entries]
    if key.startswith(STREAM_KEY_PREFIX):
        return decoded
    return [entry._replace(targets=(key,), needs_row=entry.needs_row or key not in entry.targets) for entry in decoded]


def describe_error(error: Exception) -> str:
    """Describe an error in one line of at most 500 characters, for the operator."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
