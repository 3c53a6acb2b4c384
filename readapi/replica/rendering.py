"""Rows as they are shown, from parts that were rendered once: all but the two spans of time, which pass."""

from collections.abc import Iterator
from typing import overload

import numpy as np
import orjson

from projections.patterns import PatternRow
from projections.queries import ResultRow
from readapi.patterns.rendering import RenderedRows, compact, span
from readapi.replica.columns import NEVER, Columns, Slots
from readapi.replica.row_codec import unpack

DAY = 86_400

_STARTS = [*range(1, 60), *range(60, 3_600, 60), *range(3_600, DAY, 3_600), DAY]
"""The seconds at which a span is shown differently from before; from the last on, each day."""

_BOUNDS = np.array(_STARTS, np.float64)
_SPANS = [span(start).encode() for start in (0, *_STARTS[:-1])]
_TIMES = [b'%b","exp":' % text for text in _SPANS]
_ENDS = [b'"%b"},' % text for text in _SPANS]
_DAYS = len(_SPANS)
"""Number of a span of a day or more."""


def head_of(row: PatternRow) -> bytes:
    """The start of a compact row: up to the span since its detection, which is the last but one."""
    shown = compact(row, row.detected_at)
    static = {name: value for name, value in shown.items() if name not in ("time", "exp")}
    return orjson.dumps(static)[:-1] + b',"time":"'


class ReplicaRows(RenderedRows):
    """The rows of a page, to be read before the replica changes."""

    def __init__(self, columns: Columns, slots: Slots) -> None:
        self._columns = columns
        self._slots = slots

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, place: int) -> ResultRow[PatternRow]: ...
    @overload
    def __getitem__(self, place: slice) -> list[ResultRow[PatternRow]]: ...
    def __getitem__(self, place: int | slice) -> ResultRow[PatternRow] | list[ResultRow[PatternRow]]:
        """A row, decoded now."""
        if isinstance(place, slice):
            return [found(self._columns, slot) for slot in self._slots[place].tolist()]
        return found(self._columns, int(self._slots[place]))

    def __iter__(self) -> Iterator[ResultRow[PatternRow]]:
        return iter(self[:])

    def compact(self, now: float) -> bytes:
        """The compact rows as a JSON array."""
        heads = self._columns.heads
        numbers = self._columns.numbers
        ages = now - numbers["detected_at"].take(self._slots)
        lefts = numbers["expiry"].take(self._slots) - now
        parts = [b""] * (3 * len(ages))
        parts[0::3] = [heads[slot] for slot in self._slots.tolist()]
        parts[1::3] = [
            _TIMES[number] if number < _DAYS else _time(ages[place])
            for place, number in enumerate(_BOUNDS.searchsorted(ages, "right").tolist())
        ]
        parts[2::3] = [
            _ENDS[number] if number < _DAYS else _end(lefts[place])
            for place, number in enumerate(_BOUNDS.searchsorted(lefts, "right").tolist())
        ]
        return b"[%b]" % b"".join(parts)[:-1]


def _time(age: float) -> bytes:
    return b'%b","exp":' % span(age).encode()


def _end(left: float) -> bytes:
    return b"null}," if left == NEVER else b'"%b"},' % span(left).encode()


def found(columns: Columns, slot: int) -> ResultRow[PatternRow]:
    """A row and its provenance."""
    row, position = unpack(columns, slot)
    return ResultRow(row, columns.logs[slot], position)
