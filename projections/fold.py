"""The engine: it decodes a batch of log entries and folds the events into rows.

The engine is pure: the stored state goes in (``LoadedState``) and the result comes out (``FoldResult``).
``projections.mutations`` derives the changes of a commit from the result. Live workers, replay and the retry of parked
keys use the same functions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from domain.codec import decode, topic_of
from domain.errors import TickViewError
from domain.events import Event, PatternEvent
from domain.horizon import is_from_the_future
from domain.log import LogEntry
from projections.base import Group, Projection, StoredRow, encode_row
from projections.placement import Placement, placement_of

FOLD_ATTEMPTS = 3
"""Number of attempts to fold an event before its key is parked. A lack of memory may be over at the next attempt."""

MAX_ROW_BYTES = 32 * 1024 * 1024
"""Highest number of bytes of a row's document. Every event about a row writes the whole row, and events can add
attributes to a row without end."""

STREAM_KEY_PREFIX = "@"
"""The first character of the key of events that cannot be decoded. The name of their stream follows."""


@dataclass
class LoadedState:
    """The stored state of the rows that a batch may touch."""

    rows: dict[str, StoredRow[Any]] = field(default_factory=dict)
    """The stored rows by key."""
    groups: dict[str, set[str]] = field(default_factory=dict)
    """The members of each requested group: keys of rows, and parked keys."""
    parked: set[str] = field(default_factory=set)
    """The parked keys."""


class Parked(NamedTuple):
    """An entry that is parked under a key until a fix."""

    key: str
    """The key of the row that the entry could not change, or the key of a stream (see ``STREAM_KEY_PREFIX``)."""
    entry: LogEntry
    error: str | None
    """The error of the failed fold. None: an earlier entry of the same key is parked."""


class EvolvedRow(NamedTuple):
    """The state of a row after a fold."""

    stored: StoredRow[Any] | None
    """The row with its provenance. None: the row was removed."""
    document: bytes | None
    """The row as ``encode_row`` writes it. None: the row was removed."""
    placement: Placement


@dataclass
class FoldResult:
    """The result of folding a batch: the rows before and after it, changed groups and parked entries."""

    before: dict[str, StoredRow[Any] | None] = field(default_factory=dict)
    """The changed rows by key, as they were before the batch. None: there was no row."""
    after: dict[str, EvolvedRow] = field(default_factory=dict)
    """The changed rows by key, as they are after the batch."""
    groups: dict[str, set[str]] = field(default_factory=dict)
    """All members of each group whose members changed."""
    parked: list[Parked] = field(default_factory=list)
    """The entries that the batch parks, in order."""


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


def fold(projection: Projection[Any, Any], loaded: LoadedState, entries: Sequence[DecodedEntry]) -> FoldResult:
    """Fold the entries in order, each into the rows that it addresses.

    An event that cannot be folded parks its key. Later events of a parked key are parked behind it.

    Args:
        projection: The projection.
        loaded: The stored state of all keys that ``required_keys`` returned for the entries. It is not changed.
        entries: The decoded entries in the order of the log.
    """
    folding = _Folding(projection, loaded)
    for decoded in entries:
        folding.apply(decoded)
    return folding.result()


def park_stream(entry: LogEntry, error: str) -> FoldResult:
    """Park an entry that can be folded but not committed. The later events of its stream are parked behind it."""
    return FoldResult(parked=[Parked(STREAM_KEY_PREFIX + entry.stream, entry, error)])


def overlay(loaded: LoadedState, folded: FoldResult) -> None:
    """Bring a state that was loaded before the commit of ``folded`` up to the state after the commit."""
    for key, evolved in folded.after.items():
        if evolved.stored is None:
            loaded.rows.pop(key, None)
        else:
            loaded.rows[key] = evolved.stored
    loaded.groups.update(folded.groups)
    loaded.parked.update(parked.key for parked in folded.parked)


def fold_parked(
    projection: Projection[Any, Any], loaded: LoadedState, key: str, entries: Sequence[DecodedEntry]
) -> FoldResult:
    """Fold the parked entries of a key again, in order.

    The first entry that still cannot be folded and all entries behind it stay parked: ``parked`` of the result has
    them.

    Args:
        projection: The projection.
        loaded: The stored state. The key is removed from its parked keys.
        key: The parked key.
        entries: The parked entries of the key, as ``decode_parked_entries`` returns them.
    """
    loaded.parked.discard(key)
    if not key.startswith(STREAM_KEY_PREFIX):
        loaded.parked -= {STREAM_KEY_PREFIX + decoded.entry.stream for decoded in entries}
    folding = _Folding(projection, loaded)
    for decoded in entries:
        folding.apply(decoded)
    folding.update_group(key)
    return folding.result()


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


class RowTooLargeError(TickViewError):
    """An event would make a row larger than ``MAX_ROW_BYTES``."""


class _Folding:
    """The state of a fold in progress: the rows, groups and parked keys after the entries applied so far."""

    def __init__(self, projection: Projection[Any, Any], loaded: LoadedState) -> None:
        self._projection = projection
        self._loaded = loaded
        self._rows: dict[str, EvolvedRow] = {}
        self._groups = {name: set(members) for name, members in loaded.groups.items()}
        self._parked_keys = set(loaded.parked)
        self._parked: list[Parked] = []

    def apply(self, decoded: DecodedEntry) -> None:
        stream_key = STREAM_KEY_PREFIX + decoded.entry.stream
        if stream_key in self._parked_keys:
            self._park(stream_key, decoded.entry, None)
        elif decoded.event is None:
            self._park(stream_key, decoded.entry, decoded.error)
        else:
            for key in self._resolve(decoded.targets):
                if not decoded.needs_row or self._stored(key) or key in self._parked_keys:
                    self._evolve(key, decoded.entry, decoded.event)

    def _resolve(self, targets: Iterable[str | Group]) -> list[str]:
        keys: dict[str, None] = {}
        for target in targets:
            if isinstance(target, Group):
                keys.update(dict.fromkeys(sorted(self._groups.get(target.name, ()))))
            else:
                keys[target] = None
        return list(keys)

    def _evolve(self, key: str, entry: LogEntry, event: Event) -> None:
        if key in self._parked_keys:
            self._park(key, entry, None)
            return
        stored = self._stored(key)
        row = stored.row if stored else None
        error = ""
        for _ in range(FOLD_ATTEMPTS):
            try:
                evolved = self._projection.evolve(row, event)
                if evolved is not row:
                    self._rows[key] = self._evolved(evolved, entry.position)
                    self.update_group(key)
                return
            except Exception as failure:  # noqa: BLE001 any error of a projection parks the key, so that no event is lost
                error = describe_error(failure)
        self._park(key, entry, error)

    def _evolved(self, row: Any, position: int) -> EvolvedRow:
        # The placement is computed here and not at the commit, so that an error in a declaration parks the key too.
        placement = placement_of(self._projection, row)
        if row is None:
            return EvolvedRow(None, None, placement)
        document = encode_row(row, position)
        if len(document) > MAX_ROW_BYTES:
            raise RowTooLargeError(f"the row would have {len(document):,} bytes, and may have {MAX_ROW_BYTES:,}")
        return EvolvedRow(StoredRow(row, position), document, placement)

    def _stored(self, key: str) -> StoredRow[Any] | None:
        return self._rows[key].stored if key in self._rows else self._loaded.rows.get(key)

    def _park(self, key: str, entry: LogEntry, error: str | None) -> None:
        self._parked_keys.add(key)
        self._parked.append(Parked(key, entry, error))
        self.update_group(key)

    def update_group(self, key: str) -> None:
        """Update the membership of a key in its group. Members are rows, and parked keys, which may become rows."""
        group = None if key.startswith(STREAM_KEY_PREFIX) else self._projection.group_of(key)
        if group is None:
            return
        members = self._groups.setdefault(group, set())
        if self._stored(key) is not None or key in self._parked_keys:
            members.add(key)
        else:
            members.discard(key)

    def result(self) -> FoldResult:
        return FoldResult(
            before={key: self._loaded.rows.get(key) for key in self._rows},
            after=self._rows,
            groups={
                name: members
                for name, members in self._groups.items()
                if members != self._loaded.groups.get(name, set())
            },
            parked=self._parked,
        )


def describe_error(error: Exception) -> str:
    """Describe an error in one line of at most 500 characters, for the operator."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
