"""The lazy indexes of a replica, each created when the first query needs it."""

from collections.abc import Collection, Sequence

from projections.base import ENDS_INDEX
from projections.queries import AnyProjection
from readapi.replica.columns import KEY_ORDER, Columns
from readapi.replica.lazy_index import LazyIndex
from readapi.replica.quantized import QuantizedColumn
from readapi.replica.sorted_indexes import EndsIndex, NumberIndex, SortedIndex, TextIndex


class Indexes:
    """All indexes of a replica, by column.

    Args:
        projection: The projection of the read model.
        columns: The rows.
    """

    def __init__(self, projection: AnyProjection, columns: Columns) -> None:
        self._projection = projection
        self._columns = columns
        self._number_indexes: dict[tuple[str, str | None], NumberIndex] = {}
        self._text_indexes: dict[str, TextIndex] = {}
        self._quantized: dict[str, QuantizedColumn] = {}
        self.order = projection.order or KEY_ORDER
        """The column of numbers that orders the rows of each group."""
        self.ends = EndsIndex(columns, ENDS_INDEX) if projection.ends else None
        """The rows by the moment at which they end. Call ``refresh`` before use. None: rows do not end."""

    def by_number(self, number: str, group: str | None = None) -> NumberIndex:
        """Return the index ordered by (group, number, key), or by (number, key) without a group, up to date."""
        index = self._number_indexes.get((number, group))
        if index is None:
            index = self._number_indexes[number, group] = NumberIndex(self._columns, number, group)
        return index.refresh()

    def by_text(self, text: str) -> TextIndex:
        """Return the index ordered by (text, key), up to date."""
        index = self._text_indexes.get(text)
        if index is None:
            index = self._text_indexes[text] = TextIndex(self._columns, text)
        return index.refresh()

    def by_group(self, group: str) -> NumberIndex:
        """Return the index ordered by (group, ``order``, key), up to date."""
        return self.by_number(self.order, group)

    def sorted_by(self, column: str | None) -> SortedIndex:
        """Return the index in the order of a column, or of the key if the column is None, up to date."""
        if column is None:
            return self.by_number(KEY_ORDER)
        return self.by_text(column) if column in self._projection.texts else self.by_number(column)

    def quantized(self, number: str) -> QuantizedColumn:
        """Return the quantized column of numbers, which ``mark`` brings up to date."""
        column = self._quantized.get(number)
        if column is None:
            column = self._quantized[number] = QuantizedColumn(self._columns, number, self.by_number(number))
        return column

    def prepare(self) -> None:
        """Create all indexes that filters and orders of columns need."""
        self.sorted_by(self._projection.order)
        for name, column in self._projection.columns.items():
            if column.equality:
                self.by_group(name)
            if column.has_scores or column.has_sorted_texts:
                self.sorted_by(name)
            if column.range:
                self.quantized(name).refresh()

    def reset_groups(self, columns: Collection[str]) -> None:
        """Let the indexes by the groups of some columns be rebuilt, because the codes have changed."""
        for (_, group), index in self._number_indexes.items():
            if group in columns:
                index.reset()

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
            *([self.ends] if self.ends else ()),
            *self._number_indexes.values(),
            *self._text_indexes.values(),
            *self._quantized.values(),
        ]
