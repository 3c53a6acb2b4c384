"""JSON documents of rows in one view, put together from parts that are encoded in advance.

The last members of the view are time spans, and the only ones that change with time. The members before them are
encoded once per row (the prefix), and the spans are looked up in tables of encoded texts.
"""

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import orjson

from projections.base import ENDS_INDEX
from projections.queries import AnyProjection, ResultRow
from projections.views import DAY, Elapsed, Remaining, View, span
from readapi.read_models.rendering import EncodedRows
from readapi.replica.arrays import Slots
from readapi.replica.columns import Columns, encoded_view
from readapi.replica.row_codec import RowCodec

MAX_PAGES = 500
"""Highest number of encoded pages that are remembered until their time spans change."""

MAX_PAGE_BYTES = 16_384
"""Highest number of bytes of such a page."""

_SPAN_STARTS = [*range(1, 60), *range(60, 3_600, 60), *range(3_600, DAY, 3_600), DAY]
"""Seconds at which the text of a span changes, up to one day. A longer span has no entry in the tables."""

_LOWEST_SPAN = np.finfo(np.float64).min
"""The lowest span of a moment that is not missing."""

_SPAN_BOUNDS = np.array([_LOWEST_SPAN, *_SPAN_STARTS], np.float64)
_SPANS = [b"null", *(b'"%b"' % span(start).encode() for start in (0, *_SPAN_STARTS[:-1]))]
"""The texts of spans between two bounds. The first text is that of a missing moment."""

_LONG_SPAN = len(_SPANS)
"""Number of a span of one day or more, or of a missing moment if it counts as infinite."""


class _Spans:
    """The spans of one member, each encoded with what follows it in the document.

    Args:
        member: The member.
        column: The column of numbers with the moments.
        end: What follows the span.
    """

    def __init__(self, member: Elapsed | Remaining, column: str, end: bytes) -> None:
        self._is_elapsed = isinstance(member, Elapsed)
        self._column = column
        self._end = end
        self._parts = [*(text + end for text in _SPANS), b""]

    def encode(self, columns: Columns, slots: Slots, now: float) -> list[bytes]:
        moments = columns.numbers[self._column].take(slots)
        spans = now - moments if self._is_elapsed else moments - now
        numbers = _SPAN_BOUNDS.searchsorted(spans, "right").tolist()
        parts = list(map(self._parts.__getitem__, numbers))
        if _LONG_SPAN in numbers:
            for index, seconds in enumerate(spans.tolist()):
                if numbers[index] == _LONG_SPAN:
                    parts[index] = self._long_part(seconds)
        return parts

    def _long_part(self, seconds: float) -> bytes:
        return (_SPANS[0] if seconds == np.inf else b'"%b"' % span(seconds).encode()) + self._end


class RowEncoder:
    """Encodes the documents of rows in one view.

    Args:
        view: The view. Only its last members change with time.
        ends: The column of the moment at which a row ends.
        columns: The rows of the replica.
    """

    def __init__(self, view: View, ends: str | None, columns: Columns) -> None:
        self.view = view
        self._columns = columns
        self._pages: dict[bytes, bytes] = {}
        """The pages that were encoded for the moment ``_pages_at``, by the slots of their rows."""
        self._pages_at = 0.0
        self._static = View(**{name: member for name, member in view.members.items() if name not in view.moving})
        names = [orjson.dumps(name) for name in view.moving]
        starts = [(b"," if number or self._static.members else b"") + name + b":" for number, name in enumerate(names)]
        self._prefix_end, *ends_of_spans = [*starts, b"},"]
        self._spans = [
            _Spans(member, ENDS_INDEX if member.column == ends else member.column, end)
            for member, end in zip(view.moving.values(), ends_of_spans, strict=True)
        ]

    def prefix(self, result: ResultRow[Any]) -> bytes:
        """Encode the members that do not change with time, up to the value of the first member that does."""
        return orjson.dumps(self._static.render(result, 0.0))[:-1] + self._prefix_end

    def forget_pages(self) -> None:
        """Forget all encoded pages, because a row has changed."""
        self._pages.clear()

    def encode(self, slots: Slots, now: float) -> bytes:
        """Encode the documents of the rows in some slots as a JSON array. Many scans in a second have the same page."""
        if now != self._pages_at or len(self._pages) >= MAX_PAGES:
            self._pages, self._pages_at = {}, now
        key = slots.tobytes()
        page = self._pages.get(key)
        if page is None:
            page = self._encode(slots, now)
            if len(page) <= MAX_PAGE_BYTES:
                self._pages[key] = page
        return page

    def _encode(self, slots: Slots, now: float) -> bytes:
        columns, step = self._columns, len(self._spans) + 1
        parts = [b""] * (step * len(slots))
        parts[0::step] = map(columns.prefixes.__getitem__, slots.tolist())
        for number, spans in enumerate(self._spans, 1):
            parts[number::step] = spans.encode(columns, slots, now)
        if not parts:
            return b"[]"
        parts[0] = b"[" + parts[0]
        parts[-1] = parts[-1][:-1] + b"]"
        return b"".join(parts)


class ReplicaRows(EncodedRows, Sequence[ResultRow[Any]]):
    """The rows of a page, read from the columns on access.

    Read them before the replica changes, that is before the next ``await``.

    Args:
        codec: Decodes the rows of the replica.
        encoder: Encodes the rows in one view without decoding them. None: no view is encoded in advance.
        slots: The slots of the rows of the page.
    """

    def __init__(self, codec: RowCodec, encoder: RowEncoder | None, slots: Slots) -> None:
        self._codec = codec
        self._encoder = encoder
        self._slots = slots

    def encode(self, view: View, now: float) -> bytes | None:
        """Encode the documents as a JSON array, as in the base class."""
        encoder = self._encoder
        return encoder.encode(self._slots, now) if encoder and encoder.view is view else None

    def texts(self, column: str) -> set[str]:
        """Return the different texts of the rows in a column, as in the base class."""
        return self._codec.texts(column, self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, index: int) -> ResultRow[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[ResultRow[Any]]: ...
    def __getitem__(self, index: int | slice) -> ResultRow[Any] | list[ResultRow[Any]]:
        """Decode a row or a slice of rows."""
        if isinstance(index, slice):
            return [self._codec.decode(slot) for slot in self._slots[index].tolist()]
        return self._codec.decode(self._slots.item(index))

    def __iter__(self) -> Iterator[ResultRow[Any]]:
        return iter(self[:])


def encoder_of(projection: AnyProjection, columns: Columns) -> RowEncoder | None:
    """Return the encoder of the view that is encoded in advance, if there is one."""
    view = encoded_view(projection)
    return RowEncoder(view, projection.ends, columns) if view else None
