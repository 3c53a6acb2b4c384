"""The replica of one build of ``patterns``: kept current change by change, and queried like the read model itself."""

from collections.abc import Iterable
from itertools import count

import numpy as np

from projections.base import encode_row, read_row
from projections.patterns import HIGH_CONFIDENCE, ActivePatterns, PatternRow, band_name
from projections.queries import (
    MAX_OFFSET,
    TOP_SYMBOLS,
    Cursor,
    Page,
    PatternQuery,
    PatternStatistics,
    ResultRow,
    TooDeepError,
    most_frequent,
)
from readapi.replica.columns import NO_SCORE, Columns, Slots
from readapi.replica.indexes import Indexes
from readapi.replica.rendering import ReplicaRows, encode_prefix, row_at
from readapi.replica.row_codec import decode_row, encode_payload
from readapi.replica.scanning import find_matches, sort_column

_replica_numbers = count()
"""Numbers that tell the replicas of this process apart."""


class PatternReplica:
    """All rows of one build in columns, and the queries of the port ``PatternQueries``.

    A change takes time proportional to the changed rows. The indexes follow when the next query needs them. A scan
    takes time proportional to the page in the best case, and one vectorized pass per filter in the worst case.

    Rows expire by the clock, whether or not the event of their expiry has arrived: every query first advances the
    replica to its moment. A replica is not safe for use in several threads.
    """

    source = "replica"

    def __init__(self) -> None:
        self._columns = Columns(ActivePatterns())
        self._indexes = Indexes(self._columns)
        self._now = 0.0
        self._last_expired = 0.0
        """Expiry of the row that expired last, in epoch seconds."""
        self._next_expiry = NO_SCORE
        """Expiry of the row that expires next, in epoch seconds. No row changes its state before it."""
        self._number = next(_replica_numbers)
        self.version = 0
        """Rises with every change that can change an answer."""

    def __len__(self) -> int:
        return len(self._columns)

    def __bool__(self) -> bool:
        """Return True, because a replica without rows is loaded too."""
        return True

    def put(self, log: str, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Apply changes of rows.

        Args:
            log: The log of the changes.
            rows: Keys and new documents. The document of a removed row is None.
        """
        columns = self._columns
        touched = []
        for key, document in rows:
            slot = columns.remove(key) if document is None else self._store(log, key, document)
            if slot is not None:
                touched.append(slot)
        if touched:
            self._indexes.touch(touched)
            self.version += 1

    def _store(self, log: str, key: str, document: bytes) -> int:
        stored = read_row(PatternRow, document)
        row = stored.row
        slot = self._columns.put(key, row, log, encode_payload(stored), encode_prefix(row))
        expiry = NO_SCORE if row.expires_at is None else row.expires_at
        self._columns.active[slot] = expiry > self._now
        if expiry > self._now:
            self._next_expiry = min(self._next_expiry, expiry)
        else:
            self._last_expired = max(self._last_expired, expiry)
        return slot

    def prepare(self, now: float) -> None:
        """Make all indexes in advance. ``now`` is the moment of the first queries, in epoch seconds."""
        self.advance(now)
        self._indexes.prepare()

    def document(self, key: str) -> bytes | None:
        """Return the stored document of a row, expired or not. None if there is no such row."""
        slot = self._columns.slot(key)
        return None if slot is None else encode_row(*decode_row(self._columns, slot))

    def advance(self, now: float) -> None:
        """Advance to ``now`` (epoch seconds): rows that expire until then become inactive.

        If the clock was set back, rows become active again. Takes constant time unless a row changes its state.
        """
        if self._last_expired <= now < self._next_expiry:
            self._now = now
            return
        index = self._indexes.expiry.refresh()
        expired = int(index.values.searchsorted(now, "right"))
        active = self._columns.active
        inactive, remaining = index.slots[:expired], index.slots[expired:]
        changed = [*inactive[active[inactive]].tolist(), *remaining[~active[remaining]].tolist()]
        active[inactive], active[remaining] = False, True
        self._now = now
        self._last_expired = float(index.values[expired - 1]) if expired else 0.0
        self._next_expiry = float(index.values[expired]) if expired < len(index.values) else NO_SCORE
        if changed:
            self._indexes.touch(changed)
            self.version += 1

    def state(self, now: float) -> tuple[int, int]:
        """Return the number of this replica within the process, and its version. Equal states give equal answers."""
        self.advance(now)
        return self._number, self.version

    async def scan(self, query: PatternQuery) -> Page[PatternRow]:
        """Scan. Raises TooDeepError if the page lies beyond the rows that page numbers reach."""
        self.advance(query.now)
        total, slots, more = find_matches(query, self._indexes, self._columns)
        if query.offset > MAX_OFFSET and query.offset < total:
            raise TooDeepError(
                f"row {query.offset} of {total}: page numbers reach {MAX_OFFSET} rows, use a cursor beyond"
            )
        end = self._cursor(int(slots[-1]), query.sort_by) if more and len(slots) else None
        return Page(ReplicaRows(self._columns, slots), total, end)

    def _cursor(self, slot: int, sort: str) -> Cursor:
        columns = self._columns
        if sort == "symbol":
            return Cursor(columns.text(sort, slot), columns.keys[slot])
        return Cursor(float(columns.numbers[sort_column(sort)][slot]), columns.keys[slot])

    async def get(self, pattern_id: str, now: float) -> ResultRow[PatternRow] | None:
        """Return an active pattern. None if there is no such pattern."""
        self.advance(now)
        slot = self._columns.slot(pattern_id)
        if slot is None or not self._columns.active[slot]:
            return None
        return row_at(self._columns, slot)

    async def statistics(self, now: float) -> PatternStatistics:
        """Count the patterns that are active at ``now`` (epoch seconds), in one pass over the columns."""
        self.advance(now)
        active = np.flatnonzero(self._columns.active)
        symbols = self._count_texts("symbol", active)
        return PatternStatistics(
            total=len(active),
            high_confidence=int(np.count_nonzero(self._columns.numbers["confidence"][active] >= HIGH_CONFIDENCE)),
            by_type=most_frequent(self._count_texts("type", active)),
            by_tier=most_frequent(self._count_texts("tier", active)),
            by_confidence=most_frequent(self._count_bands(active)),
            by_symbol=most_frequent(symbols, TOP_SYMBOLS),
            symbols=len(symbols),
        )

    def _count_texts(self, text: str, slots: Slots) -> dict[str, int]:
        """Count the rows of each text."""
        counts = np.bincount(self._columns.codes[text][slots])
        texts = self._columns.dictionaries[text].texts
        return {texts[code]: int(counts[code]) for code in np.flatnonzero(counts)}

    def _count_bands(self, slots: Slots) -> dict[str, int]:
        """Count the rows of each band of confidence."""
        tenths = np.minimum((self._columns.numbers["confidence"][slots] * 10).astype(np.int64), 9)
        return {band_name(tenth): rows for tenth, rows in enumerate(np.bincount(tenths).tolist())}

    @property
    def nbytes(self) -> int:
        """Approximate memory of the replica, in bytes."""
        return self._columns.nbytes + self._indexes.nbytes
