"""Quantized columns: filters on numbers that read one byte per row.

The values of a column are divided into 256 buckets of about equal size, and each row stores the number of its bucket.
A bound on the column becomes a comparison of bytes, which reads an eighth of the memory of the numbers. Only the rows
of the bucket that contains the bound are checked exactly, with the sorted index. The method is that of the VA-file
(Weber, Schek, Blott: "A Quantitative Analysis and Performance Study for Similarity-Search Methods in High-Dimensional
Spaces", VLDB 1998).
"""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from readapi.replica.arrays import Mask, Numbers
from readapi.replica.columns import Columns
from readapi.replica.lazy_index import LazyIndex
from readapi.replica.sorted_indexes import NumberIndex

BUCKETS = 256
"""Number of buckets. The number of a bucket fits into one byte."""


class QuantizedColumn(LazyIndex):
    """The buckets of one column of numbers.

    Args:
        columns: The rows.
        number: The column.
        index: The sorted index of the column.
    """

    def __init__(self, columns: Columns, number: str, index: NumberIndex) -> None:
        super().__init__()
        self._columns = columns
        self._number = number
        self._index = index
        self._edges: Numbers = np.zeros(0)
        """Lowest value of each bucket but the first."""
        self._lowest_values: list[float] = []
        """The edges as a list, in which Python's bisection is faster than NumPy's."""
        self._starts: list[int] = []
        """Bucket -> rank of its first row, and at the end the number of rows."""
        self._buckets: NDArray[np.uint8] = np.zeros(0, np.uint8)
        """Slot -> bucket."""

    def mark(self, lowest: float, highest: float, rank_range: tuple[int, int], out: Mask) -> Mask:
        """Mark the rows whose number lies between two bounds, both included.

        Takes one vectorized pass over the bytes, and corrects the rows of the two buckets that contain the bounds.

        Args:
            lowest: The lower bound.
            highest: The upper bound.
            rank_range: The rank range (start, end) of the rows that pass, in the sorted index.
            out: Receives the marks of as many leading slots as it has elements. The mark of a slot without an active
                row is undefined.
        """
        slots, starts = self._index.slots, self.refresh()._starts
        buckets = self._buckets[: len(out)]
        low, high = rank_range
        lowest_bucket = bisect_right(self._lowest_values, lowest)
        highest_bucket = bisect_right(self._lowest_values, highest)
        if highest_bucket == BUCKETS - 1:
            np.greater_equal(buckets, lowest_bucket, out=out)
        else:
            # One comparison instead of two: the difference of a bucket below the lowest wraps around to a large number.
            np.less_equal(buckets - np.uint8(lowest_bucket), highest_bucket - lowest_bucket, out=out)
        if starts[lowest_bucket] < low:
            out[slots[starts[lowest_bucket] : low]] = False
        if high < starts[highest_bucket + 1]:
            out[slots[high : starts[highest_bucket + 1]]] = False
        return out

    @property
    def nbytes(self) -> int:
        """The memory of the buckets, in bytes."""
        return self._buckets.nbytes + self._edges.nbytes

    def _rebuild(self) -> int:
        values = self._index.refresh().values
        ranks = np.arange(1, BUCKETS) * len(values) // BUCKETS
        self._edges = values[ranks] if len(values) else np.zeros(BUCKETS - 1)
        self._lowest_values = self._edges.tolist()
        self._buckets = self._quantize(self._columns.numbers[self._number])
        return self._set_starts()

    def _update(self, changed: set[int]) -> int:
        numbers = self._columns.numbers[self._number]
        if len(numbers) != len(self._buckets):
            return self._rebuild()
        slots = list(changed)
        self._buckets[slots] = self._quantize(numbers[slots])
        return self._set_starts()

    def _set_starts(self) -> int:
        values = self._index.refresh().values
        self._starts = [0, *values.searchsorted(self._edges).tolist(), len(values)]
        return len(values)

    def _quantize(self, values: Numbers) -> NDArray[np.uint8]:
        return self._edges.searchsorted(values, "right").astype(np.uint8)
