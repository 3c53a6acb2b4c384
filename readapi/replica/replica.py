"""The replica of one build of a read model: kept current change by change, and queried like the read model itself."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from projections.base import ENDS_INDEX, Projection, encode_row
from projections.queries import (
    MAX_OFFSET,
    Counts,
    Cursor,
    Page,
    Query,
    ResultRow,
    TooDeepError,
    most_frequent,
    read_result,
)
from readapi.ports.commits import RowChange
from readapi.replica.arrays import Slots
from readapi.replica.columns import NO_END, Columns, summary_column
from readapi.replica.indexes import Indexes
from readapi.replica.merging import MergedRows
from readapi.replica.rendering import ReplicaRows, encoder_of
from readapi.replica.row_codec import RowCodec
from readapi.replica.scanning import find_matches

ChangedRows = Iterable[tuple[str, bytes | None]]
"""Changed rows: keys and new documents. The document of a removed row is None."""

_replica_numbers = count()
"""Numbers that tell the replicas of this process apart."""


class Replica:
    """All rows of one build in columns, and the queries of the port ``RowQueries``.

    A change takes time proportional to the changed rows. The indexes follow when the next query needs them. A query
    takes time proportional to the page in the best case, and one vectorized pass per filter in the worst case.

    Rows end by the clock, whether or not the event of their end has arrived: every query first advances the replica to
    its moment. A replica is not safe for use in several threads.

    Args:
        projection: The projection of the read model.
    """

    source = "replica"

    def __init__(self, projection: Projection[Any, Any]) -> None:
        self._projection = projection
        self._columns = Columns(projection)
        self._indexes = Indexes(projection, self._columns)
        self._codec = RowCodec(projection, self._columns)
        self._encoder = encoder_of(projection, self._columns)
        self._merged = MergedRows(projection) if projection.merges() else None
        self._count_columns = {column.count: name for name, column in projection.columns.items() if column.equality}
        self._count_columns |= {count.name: summary_column(count.name) for count in projection.summaries}
        self._now = 0.0
        self._last_ended = 0.0
        """Moment at which the row that ended last has ended, in epoch seconds."""
        self._next_end = NO_END
        """Moment at which the next row ends, in epoch seconds. No row changes its state before it."""
        self._number = next(_replica_numbers)
        self._counted: dict[str, Counts] = {}
        """The counts by name, as of ``_counted_version``."""
        self._counted_version = 0
        self.version = 0
        """Rises with every change that can change an answer."""

    def __len__(self) -> int:
        return len(self._columns)

    def __bool__(self) -> bool:
        """Return True, because a replica without rows is loaded too."""
        return True

    def put(self, log: str, rows: ChangedRows) -> None:
        """Apply changes of rows.

        Args:
            log: The log of the changes.
            rows: The changes.
        """
        touched = []
        for key, document in rows:
            result = self._result(log, key, document)
            slot = self._columns.remove(key) if result is None else self._store(result)
            if slot is not None:
                touched.append(slot)
        if touched:
            self._indexes.touch(touched)
            self._indexes.reset_groups(self._columns.remove_unused_values())
            if self._encoder:
                self._encoder.forget_pages()
            self.version += 1

    def _result(self, log: str, key: str, document: bytes | None) -> ResultRow[Any] | None:
        if self._merged:
            return self._merged.put(log, key, document)
        return None if document is None else read_result(self._projection.row, log, key, document)

    def _store(self, result: ResultRow[Any]) -> int:
        columns = self._columns
        prefix = self._encoder.prefix(result) if self._encoder else b""
        slot = columns.put(result, self._codec.encode(result), prefix)
        end = columns.numbers[ENDS_INDEX].item(slot) if self._projection.ends else NO_END
        columns.active[slot] = end > self._now
        if end > self._now:
            self._next_end = min(self._next_end, end)
        else:
            self._last_ended = max(self._last_ended, end)
        return slot

    def prepare(self, now: float) -> None:
        """Make all indexes in advance. ``now`` is the moment of the first queries, in epoch seconds."""
        self.advance(now)
        self._indexes.prepare()

    def changes(self, log: str, rows: ChangedRows) -> list[RowChange]:
        """Return the documents of rows before and after changes that are not yet applied.

        Args:
            log: The log of the changes.
            rows: The changes. For a projection that merges, the result has the merged documents.
        """
        merged = self._merged
        return [
            RowChange(
                key,
                self.document(key),
                _document(merged.preview(log, key, document)) if merged else document,
            )
            for key, document in rows
        ]

    def document(self, key: str) -> bytes | None:
        """Return the stored document of a row, ended or not. None if there is no such row."""
        slot = self._columns.slot(key)
        return None if slot is None else _document(self._codec.decode(slot))

    def rows(self) -> Iterator[ResultRow[Any]]:
        """Iterate over all rows, ended or not, in the order of their keys. The replica must not change meanwhile."""
        return map(self._codec.decode, self._columns.slots_by_key().tolist())

    def advance(self, now: float) -> None:
        """Advance to ``now`` (epoch seconds): rows that end until then become inactive.

        If the clock was set back, rows become active again. Takes constant time unless a row changes its state.
        """
        index = self._indexes.ends
        if index is None:
            return
        if self._last_ended <= now < self._next_end:
            self._now = now
            return
        index.refresh()
        ended = int(index.values.searchsorted(now, "right"))
        active = self._columns.active
        inactive, remaining = index.slots[:ended], index.slots[ended:]
        changed = [*inactive[active[inactive]].tolist(), *remaining[~active[remaining]].tolist()]
        active[inactive], active[remaining] = False, True
        self._now = now
        self._last_ended = float(index.values[ended - 1]) if ended else 0.0
        self._next_end = float(index.values[ended]) if ended < len(index.values) else NO_END
        if changed:
            self._indexes.touch(changed)
            self.version += 1

    def state(self, now: float) -> tuple[int, int]:
        """Return the number of this replica within the process, and its version. Equal states give equal answers."""
        self.advance(now)
        return self._number, self.version

    async def page(self, query: Query) -> Page[Any]:
        """Return a page. Raises TooDeepError if the page begins after ``MAX_OFFSET``, and there are matching rows."""
        self.advance(query.now)
        total, slots, more = find_matches(query, self._projection.key, self._indexes, self._columns)
        if query.offset > MAX_OFFSET and query.offset < total:
            raise TooDeepError(query, total)
        end = self._cursor(slots.item(-1), query.sort_by) if more and len(slots) else None
        return Page(ReplicaRows(self._codec, self._encoder, slots), total, end)

    def _cursor(self, slot: int, sort_by: str | None) -> Cursor:
        columns = self._columns
        key = columns.keys[slot]
        if sort_by is None:
            return Cursor(None, key)
        if sort_by in self._projection.texts:
            return Cursor(columns.value(sort_by, slot), key)
        return Cursor(columns.numbers[sort_by].item(slot), key)

    async def get(self, key: str, now: float) -> ResultRow[Any] | None:
        """Return the row with a key, or None if there is no such row, or if it has ended at ``now``."""
        self.advance(now)
        slot = self._columns.slot(key)
        return self._codec.decode(slot) if slot is not None and self._columns.active[slot] else None

    async def get_many(self, keys: Collection[str], now: float) -> Sequence[ResultRow[Any]]:
        """Return the rows with the keys, in the order of ``keys``, without rows that do not exist or have ended."""
        self.advance(now)
        slots = self._columns.slots(keys)
        return ReplicaRows(self._codec, self._encoder, slots[self._columns.active[slots]])

    async def counts(self, names: Sequence[str], now: float) -> Mapping[str, Counts]:
        """Return counts by name, of the rows that have not ended at ``now`` (epoch seconds).

        A count takes one pass over the rows. It is kept until a row changes.
        """
        self.advance(now)
        if self._counted_version != self.version:
            self._counted, self._counted_version = {}, self.version
        if missing := [name for name in names if name not in self._counted]:
            active = np.flatnonzero(self._columns.active)
            self._counted |= {name: self._count(self._count_columns[name], active) for name in missing}
        return {name: self._counted[name] for name in names}

    def _count(self, column: str, slots: Slots) -> Counts:
        if column in self._columns.codes:
            groups = self._columns.dictionaries[column].count(self._columns.codes[column].take(slots))
        else:
            groups = {"": len(slots)} if len(slots) else {}
        return Counts(most_frequent(groups), sum(groups.values()), len(groups))

    @property
    def nbytes(self) -> int:
        """Approximate memory of the replica, in bytes."""
        merged = self._merged.nbytes if self._merged else 0
        return self._columns.nbytes + self._indexes.nbytes + merged


def _document(result: ResultRow[Any] | None) -> bytes | None:
    return result and encode_row(result.row, result.position)
