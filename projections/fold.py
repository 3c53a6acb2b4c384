"""The engine: it folds a batch of decoded events into rows.

The engine is pure: the stored state goes in (``LoadedState``) and the result comes out (``FoldResult``).
``projections.mutations`` derives the changes of a commit from the result. Live workers, replay and the retry of parked
keys use the same functions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from domain.errors import TickViewError
from domain.events import Event
from domain.log import LogEntry
from projections.base import Group, Projection, StoredRow, encode_row
from projections.decoding import STREAM_KEY_PREFIX, DecodedEntry, describe_error
from projections.placement import Placement, place

FOLD_ATTEMPTS = 3
"""Number of attempts to fold an event before its key is parked. A lack of memory may be over at the next attempt."""

MAX_ROW_BYTES = 32 * 1024 * 1024
"""Highest number of bytes of a row's document. Every event about a row writes the whole row, and events can add
attributes to a row without end."""


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


@dataclass
class FoldResult:
    """The result of folding a batch: the rows before and after it, changed groups and parked entries."""

    before: dict[str, StoredRow[Any] | None] = field(default_factory=dict)
    """The changed rows by key, as they were before the batch. None: there was no row."""
    after: dict[str, EvolvedRow] = field(default_factory=dict)
    """The changed rows by key, as they are after the batch."""
    placement: Placement = field(default_factory=Placement)
    """The placement of these rows."""
    groups: dict[str, set[str]] = field(default_factory=dict)
    """All members of each group whose members changed."""
    parked: list[Parked] = field(default_factory=list)
    """The entries that the batch parks, in order."""


def fold(projection: Projection[Any, Any], loaded: LoadedState, entries: Sequence[DecodedEntry]) -> FoldResult:
    """Fold the entries in order, each into the rows that it addresses.

    An event that cannot be folded parks its key. Later events of a parked key are parked behind it.

    Args:
        projection: The projection.
        loaded: The stored state of all keys that ``required_keys`` returned for the entries. It is not changed.
        entries: The decoded entries in the order of the log.
    """
    return _fold(projection, loaded, entries)


def _fold(
    projection: Projection[Any, Any], loaded: LoadedState, entries: Sequence[DecodedEntry], key: str | None = None
) -> FoldResult:
    """Fold the entries, and update the group of the parked key to which they belong, if any.

    Rows are encoded and placed at the end, all together. If this fails, the batch is folded again, and each state of a
    row is encoded and placed at once, so that exactly the event with the error is parked.
    """
    try:
        return _Folding(projection, loaded, stores_each=False).fold(entries, key)
    except _UnstorableRowError:
        return _Folding(projection, loaded, stores_each=True).fold(entries, key)


def fold_states(
    projection: Projection[Any, Any], loaded: LoadedState, entries: Sequence[DecodedEntry]
) -> tuple[list[list[tuple[str, EvolvedRow]]], list[str]]:
    """Fold the entries as ``fold`` does, and return all states of the rows instead of the last ones.

    Returns:
        For each entry the keys of the rows that it changed, with their states after it, and the keys that were parked.
    """
    try:
        return _Folding(projection, loaded, stores_each=False).fold_states(entries)
    except _UnstorableRowError:
        return _Folding(projection, loaded, stores_each=True).fold_states(entries)


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
    return _fold(projection, loaded, entries, key)


class RowTooLargeError(TickViewError):
    """An event would make a row larger than ``MAX_ROW_BYTES``."""


class _UnstorableRowError(Exception):
    """A row cannot be encoded or placed."""


class _Folding:
    """The state of a fold in progress: the rows, groups and parked keys after the entries applied so far."""

    def __init__(self, projection: Projection[Any, Any], loaded: LoadedState, *, stores_each: bool) -> None:
        self._projection = projection
        self._loaded = loaded
        self._stores_each = stores_each
        self._rows: dict[str, StoredRow[Any] | None] = {}
        self._states: list[tuple[str, StoredRow[Any] | None]] = []
        """All states of the rows, with their keys. An error in a state counts even if a later event of the batch has
        changed the row: otherwise the rows would depend on the limits of the batches."""
        self._groups = {name: set(members) for name, members in loaded.groups.items()}
        self._parked_keys = set(loaded.parked)
        self._parked: list[Parked] = []

    def fold(self, entries: Iterable[DecodedEntry], key: str | None) -> FoldResult:
        """Apply the entries, update the group of ``key``, and return the result.

        Raises:
            _UnstorableRowError: A row cannot be encoded or placed.
        """
        for decoded in entries:
            self._apply(decoded)
        if key is not None:
            self._update_group(key)
        return self._result()

    def fold_states(self, entries: Iterable[DecodedEntry]) -> tuple[list[list[tuple[str, EvolvedRow]]], list[str]]:
        """Return the states after each entry, and the parked keys. Raises _UnstorableRowError like ``fold``."""
        ends = []
        for decoded in entries:
            self._apply(decoded)
            ends.append(len(self._states))
        try:
            if not self._stores_each:
                rows = (stored.row for _, stored in self._states if stored)
                place(self._projection, {str(number): row for number, row in enumerate(rows)})
            states = [(key, EvolvedRow(stored, _encode(stored) if stored else None)) for key, stored in self._states]
        except Exception as error:  # any error of a projection must be traced to its event
            raise _UnstorableRowError from error
        changed = [states[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return changed, [parked.key for parked in self._parked]

    def _apply(self, decoded: DecodedEntry) -> None:
        stream_key = STREAM_KEY_PREFIX + decoded.entry.stream
        if stream_key in self._parked_keys:
            self._park(stream_key, decoded.entry, None)
        elif decoded.event is None:
            self._park(stream_key, decoded.entry, decoded.error)
        else:
            for key in self._resolve(decoded.targets):
                if not decoded.needs_row or self._stored(key) or key in self._parked_keys:
                    self._evolve(key, decoded.entry, decoded.event)

    def _resolve(self, targets: Iterable[str | Group]) -> Iterable[str]:
        keys: dict[str, None] = {}
        for target in targets:
            if isinstance(target, Group):
                keys.update(dict.fromkeys(sorted(self._groups.get(target.name, ()))))
            else:
                keys[target] = None
        return keys

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
                    self._replace(key, None if evolved is None else StoredRow(evolved, entry.position))
                return
            except Exception as failure:  # noqa: BLE001 any error of a projection parks the key, so that no event is lost
                error = describe_error(failure)
        self._park(key, entry, error)

    def _replace(self, key: str, stored: StoredRow[Any] | None) -> None:
        if stored and self._stores_each:
            _encode(stored)
            place(self._projection, {key: stored.row})
        former = self._stored(key)
        self._rows[key] = stored
        self._states.append((key, stored))
        if former is None or stored is None:
            self._update_group(key)

    def _stored(self, key: str) -> StoredRow[Any] | None:
        return self._rows[key] if key in self._rows else self._loaded.rows.get(key)

    def _park(self, key: str, entry: LogEntry, error: str | None) -> None:
        self._parked_keys.add(key)
        self._parked.append(Parked(key, entry, error))
        self._update_group(key)

    def _update_group(self, key: str) -> None:
        """Update the membership of a key in its group. Members are rows, and parked keys, which may become rows."""
        group = None if key.startswith(STREAM_KEY_PREFIX) else self._projection.group_of(key)
        if group is None:
            return
        members = self._groups.setdefault(group, set())
        if self._stored(key) is not None or key in self._parked_keys:
            members.add(key)
        else:
            members.discard(key)

    def _result(self) -> FoldResult:
        try:
            if len(self._states) > len(self._rows) and not self._stores_each:
                self._check_superseded()
            after = {key: EvolvedRow(stored, _encode(stored) if stored else None) for key, stored in self._rows.items()}
            placement = place(self._projection, {key: stored.row for key, stored in self._rows.items() if stored})
        except Exception as error:  # any error of a projection must be traced to its event
            raise _UnstorableRowError from error
        return FoldResult(
            before={key: self._loaded.rows.get(key) for key in self._rows},
            after=after,
            placement=placement,
            groups={
                name: members
                for name, members in self._groups.items()
                if members != self._loaded.groups.get(name, set())
            },
            parked=self._parked,
        )

    def _check_superseded(self) -> None:
        superseded = [stored for key, stored in self._states if stored and stored is not self._rows[key]]
        for stored in superseded:
            _encode(stored)
        place(self._projection, {str(number): stored.row for number, stored in enumerate(superseded)})


def _encode(stored: StoredRow[Any]) -> bytes:
    document = encode_row(*stored)
    if len(document) > MAX_ROW_BYTES:
        raise RowTooLargeError(f"the row would have {len(document):,} bytes, and may have {MAX_ROW_BYTES:,}")
    return document
