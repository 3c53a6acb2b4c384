"""Compact JSON documents of rows, put together from parts that are encoded in advance.

Only two members of a compact document change with time: the spans since the detection and until the expiry. They are
the last members of the document. The members before them are encoded once per row (the prefix), and the spans are
looked up in a table of encoded texts.
"""

from collections.abc import Iterator
from typing import overload

import numpy as np
import orjson

from projections.patterns import PatternRow
from projections.queries import ResultRow
from readapi.patterns.rendering import RenderedRows, compact, span
from readapi.replica.columns import NO_SCORE, Columns, Slots
from readapi.replica.row_codec import decode_row

DAY = 86_400
"""Seconds per day."""

_SPAN_STARTS = [*range(1, 60), *range(60, 3_600, 60), *range(3_600, DAY, 3_600), DAY]
"""Seconds at which the text of a span changes, up to one day. A longer span has no entry in the tables."""

_SPAN_BOUNDS = np.array(_SPAN_STARTS, np.float64)
_SPANS = [span(start).encode() for start in (0, *_SPAN_STARTS[:-1])]
_TIME_PARTS = [b'%b","exp":' % text for text in _SPANS]
_EXPIRY_PARTS = [b'"%b"},' % text for text in _SPANS]
_LONG_SPAN = len(_SPANS)
"""Number of a span of one day or more."""


def encode_prefix(row: PatternRow) -> bytes:
    """Encode the start of a compact document, up to and including the opening quote of ``time``."""
    document = compact(row, row.detected_at)
    static = {name: value for name, value in document.items() if name not in ("time", "exp")}
    return orjson.dumps(static)[:-1] + b',"time":"'


class ReplicaRows(RenderedRows):
    """The rows of a page, read from the columns on access.

    Read them before the replica changes, that is before the next ``await``.
    """

    def __init__(self, columns: Columns, slots: Slots) -> None:
        self._columns = columns
        self._slots = slots

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, index: int) -> ResultRow[PatternRow]: ...
    @overload
    def __getitem__(self, index: slice) -> list[ResultRow[PatternRow]]: ...
    def __getitem__(self, index: int | slice) -> ResultRow[PatternRow] | list[ResultRow[PatternRow]]:
        """Decode a row or a slice of rows."""
        if isinstance(index, slice):
            return [row_at(self._columns, slot) for slot in self._slots[index].tolist()]
        return row_at(self._columns, int(self._slots[index]))

    def __iter__(self) -> Iterator[ResultRow[PatternRow]]:
        return iter(self[:])

    def compact(self, now: float) -> bytes:
        """Encode the compact documents as a JSON array. Decodes no row."""
        prefixes = self._columns.prefixes
        numbers = self._columns.numbers
        ages = now - numbers["detected_at"].take(self._slots)
        remaining = numbers["expiry"].take(self._slots) - now
        parts = [b""] * (3 * len(ages))
        parts[0::3] = [prefixes[slot] for slot in self._slots.tolist()]
        parts[1::3] = [
            _TIME_PARTS[number] if number < _LONG_SPAN else _time_part(ages[index])
            for index, number in enumerate(_SPAN_BOUNDS.searchsorted(ages, "right").tolist())
        ]
        parts[2::3] = [
            _EXPIRY_PARTS[number] if number < _LONG_SPAN else _expiry_part(remaining[index])
            for index, number in enumerate(_SPAN_BOUNDS.searchsorted(remaining, "right").tolist())
        ]
        return b"[%b]" % b"".join(parts)[:-1]


def _time_part(age: float) -> bytes:
    return b'%b","exp":' % span(age).encode()


def _expiry_part(remaining: float) -> bytes:
    return b"null}," if remaining == NO_SCORE else b'"%b"},' % span(remaining).encode()


def row_at(columns: Columns, slot: int) -> ResultRow[PatternRow]:
    """Decode the row in a slot, with its provenance."""
    row, position = decode_row(columns, slot)
    return ResultRow(row, columns.logs[slot], position)
