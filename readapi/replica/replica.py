"""The replica of one build of ``patterns``: kept current change by change, and asked like the read model itself."""

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
from readapi.replica.columns import NEVER, Columns, Slots
from readapi.replica.indexes import Indexes
from readapi.replica.rendering import ReplicaRows, found, head_of
from readapi.replica.row_codec import pack, unpack
from readapi.replica.scanning import column_of, find

_numbers = count()


class PatternReplica:
    """All rows of one build. Not for more than one thread."""

    source = "replica"

    def __init__(self) -> None:
        self._columns = Columns(ActivePatterns())
        self._indexes = Indexes(self._columns)
        self._now = 0.0
        self._elapsed = 0.0
        """No later row than this had elapsed …"""
        self._elapses = NEVER
        """… and the next will at this moment."""
        self._number = next(_numbers)
        self.version = 0
        """Rises with every change of what can be answered."""

    def __len__(self) -> int:
        return len(self._columns)

    def __bool__(self) -> bool:
        return True

    def put(self, log: str, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """What became of some rows of a log: their documents, None where a row is gone."""
        columns = self._columns
        touched = []
        for key, document in rows:
            slot = columns.remove(key) if document is None else self._hold(log, key, document)
            if slot is not None:
                touched.append(slot)
        if touched:
            self._indexes.touch(touched)
            self.version += 1

    def _hold(self, log: str, key: str, document: bytes) -> int:
        stored = read_row(PatternRow, document)
        row = stored.row
        slot = self._columns.put(key, row, log, pack(stored), head_of(row))
        expiry = NEVER if row.expires_at is None else row.expires_at
        self._columns.active[slot] = expiry > self._now
        if expiry > self._now:
            self._elapses = min(self._elapses, expiry)
        else:
            self._elapsed = max(self._elapsed, expiry)
        return slot

    def prepare(self, now: float) -> None:
        """Make what the first queries would else have to make."""
        self.advance(now)
        self._indexes.prepare()

    def document(self, key: str) -> bytes | None:
        """What is held of a row, whether it has elapsed or not."""
        slot = self._columns.slot(key)
        return None if slot is None else encode_row(*unpack(self._columns, slot))

    def advance(self, now: float) -> None:
        """Let rows elapse whose ``expires_at`` is not after ``now``; let them be back where the clock was set back."""
        if self._elapsed <= now < self._elapses:
            self._now = now
            return
        order = self._indexes.expiry.refresh()
        at = int(order.values.searchsorted(now, "right"))
        active = self._columns.active
        gone, left = order.slots[:at], order.slots[at:]
        changed = [*gone[active[gone]].tolist(), *left[~active[left]].tolist()]
        active[gone], active[left] = False, True
        self._now = now
        self._elapsed = float(order.values[at - 1]) if at else 0.0
        self._elapses = float(order.values[at]) if at < len(order.values) else NEVER
        if changed:
            self._indexes.touch(changed)
            self.version += 1

    def state(self, now: float) -> tuple[int, int]:
        """Which replica of this process, and which version of it."""
        self.advance(now)
        return self._number, self.version

    async def scan(self, query: PatternQuery) -> Page[PatternRow]:
        """The page of the scan. Raises TooDeepError."""
        self.advance(query.now)
        total, slots, more = find(query, self._indexes, self._columns)
        if query.offset > MAX_OFFSET and query.offset < total:
            raise TooDeepError(f"row {query.offset} of {total}: beyond {MAX_OFFSET}, only a cursor goes on")
        end = self._cursor(int(slots[-1]), query.sort_by) if more and len(slots) else None
        return Page(ReplicaRows(self._columns, slots), total, end)

    def _cursor(self, slot: int, sort: str) -> Cursor:
        columns = self._columns
        if sort == "symbol":
            return Cursor(columns.text(sort, slot), columns.keys[slot])
        return Cursor(float(columns.numbers[column_of(sort)][slot]), columns.keys[slot])

    async def get(self, pattern_id: str, now: float) -> ResultRow[PatternRow] | None:
        """One active pattern."""
        self.advance(now)
        slot = self._columns.slot(pattern_id)
        if slot is None or not self._columns.active[slot]:
            return None
        return found(self._columns, slot)

    async def statistics(self, now: float) -> PatternStatistics:
        """Counts of the patterns that are active at ``now``."""
        self.advance(now)
        active = np.flatnonzero(self._columns.active)
        symbols = self._counted("symbol", active)
        return PatternStatistics(
            total=len(active),
            high_confidence=int(np.count_nonzero(self._columns.numbers["confidence"][active] >= HIGH_CONFIDENCE)),
            by_type=most_frequent(self._counted("type", active)),
            by_tier=most_frequent(self._counted("tier", active)),
            by_confidence=most_frequent(self._by_band(active)),
            by_symbol=most_frequent(symbols, TOP_SYMBOLS),
            symbols=len(symbols),
        )

    def _counted(self, text: str, slots: Slots) -> dict[str, int]:
        """Text -> how many of the rows have it."""
        counts = np.bincount(self._columns.codes[text][slots])
        texts = self._columns.dictionaries[text].texts
        return {texts[code]: int(counts[code]) for code in np.flatnonzero(counts)}

    def _by_band(self, slots: Slots) -> dict[str, int]:
        """Band of confidence -> how many of the rows lie in it."""
        tenths = np.minimum((self._columns.numbers["confidence"][slots] * 10).astype(np.int64), 9)
        return {band_name(tenth): rows for tenth, rows in enumerate(np.bincount(tenths).tolist())}

    @property
    def nbytes(self) -> int:
        """The memory that its rows take, about."""
        return self._columns.nbytes + self._indexes.nbytes
