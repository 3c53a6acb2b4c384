"""The lazy indexes of the replica, each created when the first query needs it."""

from collections.abc import Sequence

from readapi.replica.columns import Columns
from readapi.replica.lazy_index import LazyIndex
from readapi.replica.quantized import QuantizedColumn
from readapi.replica.sorted_indexes import ExpiryIndex, NumberIndex, TextIndex

FILTERED_NUMBERS = ("confidence", "relative_strength", "relative_volume", "rsi")
"""Columns of numbers that scans can filter."""


class Indexes:
    """All indexes of the replica, by column."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._number_indexes: dict[tuple[str, str | None], NumberIndex] = {}
        self._text_indexes: dict[str, TextIndex] = {}
        self._quantized: dict[str, QuantizedColumn] = {}
        self.expiry = ExpiryIndex(columns, "expiry")
        """The rows by expiry. Call ``refresh`` before use."""

    def by_number(self, number: str, text: str | None = None) -> NumberIndex:
        """Return the index ordered by (text, number, key), or by (number, key) without a text, up to date."""
        index = self._number_indexes.get((number, text))
        if index is None:
            index = self._number_indexes[number, text] = NumberIndex(self._columns, number, text)
        return index.refresh()

    def by_text(self, text: str) -> TextIndex:
        """Return the index ordered by (text, key), up to date."""
        index = self._text_indexes.get(text)
        if index is None:
            index = self._text_indexes[text] = TextIndex(self._columns, text)
        return index.refresh()

    def quantized(self, number: str) -> QuantizedColumn:
        """Return the quantized column of numbers, which ``mark`` brings up to date."""
        column = self._quantized.get(number)
        if column is None:
            column = self._quantized[number] = QuantizedColumn(self._columns, number, self.by_number(number))
        return column

    def prepare(self) -> None:
        """Create all indexes that scans need."""
        for number in self._columns.numbers.keys() - {"expiry"}:
            self.by_number(number)
        for number in FILTERED_NUMBERS:
            self.quantized(number).refresh()
        for text in self._columns.codes:
            self.by_number("confidence", text)
        self.by_text("symbol")

    def touch(self, slots: Sequence[int]) -> None:
        """Note that the rows in these slots were added, changed or removed."""
        for index in self._all():
            index.touch(slots)

    @property
    def nbytes(self) -> int:
        """The memory of all indexes, in bytes."""
        return sum(index.nbytes for index in self._all())

    def _all(self) -> list[LazyIndex]:
        return [
            self.expiry,
            *self._number_indexes.values(),
            *self._text_indexes.values(),
            *self._quantized.values(),
        ]
