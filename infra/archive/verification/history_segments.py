"""The verification of a history on one log, in one snapshot of the database."""

import random
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from psycopg import Connection
from psycopg.sql import SQL

from infra.archive.log_archive import read_batch
from infra.archive.ranges import WHOLE_ARCHIVE, ArchiveRange, first_position, last_position
from infra.archive.row_history.tables import original, storable
from infra.archive.row_history.unit_events import HistorySegment, Units, readable
from infra.archive.verification.chain_walk import Progress
from infra.archive.verification.history_references import BATCH_EVENTS, find_wrong_reference
from infra.archive.verification.history_rows import HistoryFinding, RowComparison, unit_of_stored_key
from infra.postgres.statements import load_statements
from projections.decoding import decode_entries
from projections.row_history import by_unit

SAMPLE_EVENTS = 1_000
"""Number of events, and highest number of further rows, of a sample. A log with fewer events is verified as a whole."""

PAGE_SIZE = 500
"""Number of units, or of keys, that are compared at once."""

Scope = ArchiveRange | Literal["sample"]
"""Which part of a history is verified."""

_statements = load_statements(__package__)
_SELECT_UNITS = SQL(_statements["select_units"])
_SELECT_KEYS = SQL(_statements["select_keys"])
_SELECT_KEYS_BETWEEN = SQL(_statements["select_keys_between"])
_SELECT_KEYS_AT = SQL(_statements["select_keys_at"])
_COUNT_STATES = SQL(_statements["count_states"])


class HistoryExtent(NamedTuple):
    """How far a history is folded, and which events its log has in the archive."""

    log: str
    checkpoint: int
    archived: int | None
    lowest: int | None

    @property
    def detached(self) -> int:
        """The position up to which the events are in detached months."""
        return (self.archived or 0) if self.lowest is None else self.lowest - 1


class SegmentVerifier:
    """Verifies a history on one log, until the first finding."""

    def __init__(
        self, connection: Connection, segment: HistorySegment, extent: HistoryExtent, progress: Progress
    ) -> None:
        self.events = 0
        self.rows = 0
        self.skipped: set[str] = set()
        self.finding: HistoryFinding | None = None
        self._connection = connection
        self._segment = segment
        self._extent = extent
        self._progress = progress
        self._comparison = RowComparison(connection, segment, extent.checkpoint, extent.detached)

    def verify(self, scope: Scope) -> None:
        """Verify a part of the log."""
        log, checkpoint, archived, _ = self._extent
        if checkpoint > (archived or 0):
            detail = f"the history is folded up to event {checkpoint}, but the log is archived up to {archived or 0}"
            self.finding = HistoryFinding(self._segment.tables.name, None, None, "changed", detail)
            return
        if scope == WHOLE_ARCHIVE:
            self._verify_whole()
        elif scope != "sample":
            first = first_position(self._connection, log, scope.start)
            if first is not None:
                self._verify_part(first, last_position(self._connection, log, scope.end))
        elif checkpoint - self._extent.detached <= SAMPLE_EVENTS:
            self._verify_whole()
        else:
            first = random.randint(self._extent.detached + 1, checkpoint - SAMPLE_EVENTS + 1)  # noqa: S311
            self._verify_part(first, first + SAMPLE_EVENTS - 1, is_sample=True)

    def _verify_whole(self) -> None:
        detached, checkpoint = min(self._extent.detached, self._extent.checkpoint), self._extent.checkpoint
        self.finding = find_wrong_reference(self._connection, self._segment, detached, checkpoint, self._advance)
        names, values = self._segment.tables, [self._segment.version, self._segment.log]
        for units in self._pages(_SELECT_UNITS.format(events=names.events)):
            if not self._compare(dict.fromkeys(units, ())):
                return
        [[stored]] = self._connection.execute(_COUNT_STATES.format(history=names.history), values)
        if stored == self.rows:
            return
        # Further rows are under keys that no event names, or belong to units that were skipped.
        for keys in self._pages(_SELECT_KEYS.format(history=names.history)):
            counted = self.rows
            if not self._compare_keys(keys):
                return
            self.rows = counted

    def _verify_part(self, first: int, last: int, *, is_sample: bool = False) -> None:
        last = min(last, self._extent.checkpoint)
        first = max(first, self._extent.detached + 1)
        history, values = self._segment.tables.history, [self._segment.version, self._segment.log]
        moments = []
        after = first - 1
        while entries := read_batch(self._connection, self._segment.log, after, last, BATCH_EVENTS):
            moments.append(random.choice(entries).recorded_at)  # noqa: S311
            if not self._compare(self._units_of(entries)):
                return
            self._advance(entries[-1].position - after)
            after = entries[-1].position
        keys = self._keys(_SELECT_KEYS_BETWEEN.format(history=history), [*values, first, last])
        if is_sample:
            version, log = values
            at = {"moment": moments[0], "version": version, "log": log, "limit": SAMPLE_EVENTS}
            keys += self._keys(_SELECT_KEYS_AT.format(history=history), at)
        for start in range(0, len(keys), PAGE_SIZE):
            if not self._compare_keys(keys[start : start + PAGE_SIZE]):
                return

    def _units_of(self, entries: Iterable[Any]) -> dict[str, tuple[int, ...]]:
        """Return the positions of the events of each unit."""
        units: Units = by_unit(self._segment.projection, readable(decode_entries(self._segment.projection, entries)))
        return {unit: tuple(decoded.entry.position for decoded in own) for unit, own in units.items()}

    def _pages(self, statement: Any) -> Iterator[list[str]]:
        """Yield names in pages. The statement takes the version, the log, the last name and a limit."""
        after: str | None = None
        while self.finding is None:
            values = {"version": self._segment.version, "log": self._segment.log, "after": after, "limit": PAGE_SIZE}
            names = self._keys(statement, values)
            if not names:
                return
            yield names
            after = storable(names[-1])

    def _keys(self, statement: Any, values: Any) -> list[str]:
        return [original(name) for (name,) in self._connection.execute(statement, values)]

    def _compare_keys(self, keys: list[str]) -> bool:
        units = {unit_of_stored_key(self._segment.projection, key) for key in keys}
        return self._compare({unit: () for unit in units if unit is not None}, keys)

    def _compare(self, units: dict[str, tuple[int, ...]], keys: Iterable[str] = ()) -> bool:
        """Compare units. Return whether all of their rows are as the events say."""
        rows, skipped, self.finding = self._comparison.compare(units, keys)
        self.rows += rows
        self.skipped |= skipped
        return self.finding is None

    def _advance(self, events: int) -> None:
        self.events += events
        total = self._extent.checkpoint - self._extent.detached
        self._progress(f"{self._segment.tables.name} of {self._segment.log}", self.events, total)
