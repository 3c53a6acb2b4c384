"""The engine: folds a batch of log entries into changes of rows, and derives what follows from them.

Pure: the stored rows go in (``LoadedState``), the changes to the store come out (``Mutations``). Live work,
replay and the retry of parked events share these functions, only what drives them differs.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from domain.codec import decode, topic_of
from domain.events import Event
from domain.log import LogEntry
from projections.base import Group, Projection, StoredRow, encode_row

FOLD_ATTEMPTS = 3
"""How often an event is tried before its key is parked: a fold is pure, but memory may be short for a moment."""

STREAM_KEY_PREFIX = "@"
"""Starts the key under which events are parked that cannot even be read: the key is their stream's name."""


@dataclass
class LoadedState:
    """What the store holds of the rows that a batch may touch."""

    rows: dict[str, StoredRow[Any]] = field(default_factory=dict)
    groups: dict[str, set[str]] = field(default_factory=dict)
    """Members of the groups asked for: keys of rows, and parked keys."""
    parked: set[str] = field(default_factory=set)


class Parked(NamedTuple):
    """An entry that waits for a fix, under the key whose row it could not change."""

    key: str
    entry: LogEntry
    error: str | None
    """Why it could not be folded; None where it waits behind one that could not."""


class Placement(NamedTuple):
    """Where a row stands: per index its (group, score), per count its group; None where it does not."""

    indexes: tuple[tuple[str, float] | None, ...]
    counts: tuple[str | None, ...]


class EvolvedRow(NamedTuple):
    """What has become of a row: the row, its document and its places; all None where it is no more."""

    stored: StoredRow[Any] | None
    document: bytes | None
    places: Placement


@dataclass
class FoldResult:
    """What a batch does: rows as they were and as they shall be, and what it parks."""

    before: dict[str, StoredRow[Any] | None] = field(default_factory=dict)
    after: dict[str, EvolvedRow] = field(default_factory=dict)
    groups: dict[str, set[str]] = field(default_factory=dict)
    """Every group whose members changed, with its members now."""
    parked: list[Parked] = field(default_factory=list)


@dataclass
class Mutations:
    """What a commit changes in a store: documents to write (None: to remove), the others by (name, group or "")."""

    rows: dict[str, bytes | None] = field(default_factory=dict)
    index_additions: dict[tuple[str, str], dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    index_removals: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    groups: dict[str, set[str]] = field(default_factory=dict)
    parked: list[Parked] = field(default_factory=list)
    tells_rows: bool = True  # to those who follow the read model; else which rows they are


class DecodedEntry(NamedTuple):
    """A log entry with what it says, or why it cannot be read."""

    entry: LogEntry
    event: Event | None
    targets: tuple[str | Group, ...]
    error: str | None


def decode_entries(projection: Projection[Any, Any], entries: Iterable[LogEntry]) -> list[DecodedEntry]:
    """Decode the entries that the projection handles and ask it which rows they speak of."""
    topics = {topic_of(event_type) for event_type in projection.handles}
    return [_decode_entry(projection, entry) for entry in entries if entry.topic in topics]


def _decode_entry(projection: Projection[Any, Any], entry: LogEntry) -> DecodedEntry:
    try:
        event = decode(entry.topic, entry.event_id, entry.state)
        return DecodedEntry(entry, event, tuple(projection.keys(event)), None)
    except Exception as error:  # noqa: BLE001 whatever a projection raises parks the event; nothing is lost
        return DecodedEntry(entry, None, (), describe(error))


def required_keys(
    projection: Projection[Any, Any], readings: Iterable[DecodedEntry]
) -> tuple[set[str], set[str], set[str]]:
    """The row keys, the groups and the possibly parked keys that the store must be asked for."""
    keys: set[str] = set()
    groups: set[str] = set()
    streams: set[str] = set()
    for reading in readings:
        streams.add(STREAM_KEY_PREFIX + reading.entry.stream)
        for target in reading.targets:
            if isinstance(target, Group):
                groups.add(target.name)
            else:
                keys.add(target)
                if group := projection.group_of(target):
                    groups.add(group)
    return keys, groups, keys | streams


def fold(projection: Projection[Any, Any], loaded: LoadedState, readings: Sequence[DecodedEntry]) -> FoldResult:
    """Apply the events in order, each to the rows it speaks of; one that cannot be folded parks its key."""
    folding = _Folding(projection, loaded)
    for reading in readings:
        folding.apply(reading)
    return folding.result()


def overlay(loaded: LoadedState, folded: FoldResult) -> None:
    """Bring what was loaded before ``folded`` was committed to what would have been loaded after it."""
    for key, evolved in folded.after.items():
        if evolved.stored is None:
            loaded.rows.pop(key, None)
        else:
            loaded.rows[key] = evolved.stored
    loaded.groups.update(folded.groups)
    loaded.parked.update(parked.key for parked in folded.parked)


def fold_parked(
    projection: Projection[Any, Any], loaded: LoadedState, key: str, readings: Sequence[DecodedEntry]
) -> FoldResult:
    """Apply the parked events of ``key`` again, in order, up to the first that still cannot be folded.

    That one and those behind it are in the result's ``parked``.
    """
    loaded.parked.discard(key)
    if not key.startswith(STREAM_KEY_PREFIX):
        loaded.parked -= {STREAM_KEY_PREFIX + reading.entry.stream for reading in readings}
    folding = _Folding(projection, loaded)
    for reading in readings:
        folding.apply(reading)
    folding.regroup(key)
    return folding.result()


def decode_parked_entries(
    projection: Projection[Any, Any], key: str, entries: Iterable[LogEntry]
) -> list[DecodedEntry]:
    """Decode the parked entries of ``key``; where that is a row's, they speak of that row alone."""
    readings = [_decode_entry(projection, entry) for entry in entries]
    if key.startswith(STREAM_KEY_PREFIX):
        return readings
    return [reading._replace(targets=(key,)) for reading in readings]


class _Folding:
    """The state of one fold: the rows, groups and parked keys as they stand after the events applied so far."""

    def __init__(self, projection: Projection[Any, Any], loaded: LoadedState) -> None:
        self._projection = projection
        self._loaded = loaded
        self._rows: dict[str, EvolvedRow] = {}
        self._groups = {name: set(members) for name, members in loaded.groups.items()}
        self._parked_keys = set(loaded.parked)
        self._parked: list[Parked] = []

    def apply(self, reading: DecodedEntry) -> None:
        stream_key = STREAM_KEY_PREFIX + reading.entry.stream
        if stream_key in self._parked_keys:
            self._park(stream_key, reading.entry, None)
        elif reading.event is None:
            self._park(stream_key, reading.entry, reading.error)
        else:
            for key in self._resolve(reading.targets):
                self._evolve(key, reading.entry, reading.event)

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
                    self.regroup(key)
                return
            except Exception as failure:  # noqa: BLE001 whatever a projection raises parks the key; nothing is lost
                error = describe(failure)
        self._park(key, entry, error)

    def _evolved(self, row: Any, position: int) -> EvolvedRow:
        """The row with all that follows from it, so that a declaration that fails parks the key too."""
        places = placement_of(self._projection, row)
        if row is None:
            return EvolvedRow(None, None, places)
        return EvolvedRow(StoredRow(row, position), encode_row(row, position), places)

    def _stored(self, key: str) -> StoredRow[Any] | None:
        return self._rows[key].stored if key in self._rows else self._loaded.rows.get(key)

    def _park(self, key: str, entry: LogEntry, error: str | None) -> None:
        self._parked_keys.add(key)
        self._parked.append(Parked(key, entry, error))
        self.regroup(key)

    def regroup(self, key: str) -> None:
        """A group has the rows there are, and the parked keys, whose rows may come to be."""
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


def placement_of(projection: Projection[Any, Any], row: Any) -> Placement:
    """Where the declarations of the projection put a row; nowhere if it is None."""
    if row is None:
        return Placement((None,) * len(projection.indexes), (None,) * len(projection.summaries))
    indexes: list[tuple[str, float] | None] = []
    for index in projection.indexes:
        score = index.score(row)
        indexes.append(None if score is None else (index.by(row) if index.by else "", score))
    counts: list[str | None] = []
    for count in projection.summaries:
        if count.where and not count.where(row):
            counts.append(None)
        else:
            counts.append(count.by(row) if count.by else "")
    return Placement(tuple(indexes), tuple(counts))


def derive(projection: Projection[Any, Any], folded: FoldResult) -> Mutations:
    """Every change to rows, indexes and counts that follows from the rows as they were and as they shall be."""
    mutations = Mutations(groups=folded.groups, parked=folded.parked, tells_rows=projection.tells_rows)
    for key, evolved in folded.after.items():
        old = folded.before[key]
        if old is None and evolved.stored is None:
            continue
        mutations.rows[key] = evolved.document
        places = placement_of(projection, old.row if old else None)
        if places == evolved.places:
            continue
        for index, was, shall_be in zip(projection.indexes, places.indexes, evolved.places.indexes, strict=True):
            if was == shall_be:
                continue
            if was is not None and (shall_be is None or was[0] != shall_be[0]):
                mutations.index_removals[index.name, was[0]].append(key)
            if shall_be is not None:
                mutations.index_additions[index.name, shall_be[0]][key] = shall_be[1]
        for count, group, new_group in zip(projection.summaries, places.counts, evolved.places.counts, strict=True):
            if group == new_group:
                continue
            if group is not None:
                mutations.counts[count.name, group] -= 1
            if new_group is not None:
                mutations.counts[count.name, new_group] += 1
    mutations.counts = {place: change for place, change in mutations.counts.items() if change}
    return mutations


def describe(error: Exception) -> str:
    """An error in one line, for the operator."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
