"""Quantized columns: filters on numbers that read one byte per row.

The values of a column are divided into 256 buckets of about equal size, and each row stores the number of its bucket.
A bound on the column becomes a comparison of bytes, which reads an eighth of the memory of the numbers. Only the rows
of the bucket that contains the bound are checked exactly, with the sorted index. The method is that of the VA-file
(Weber, Schek, Blott: "A Quantitative Analysis and Performance Study for Similarity-Search Methods in High-Dimensional
Spaces", VLDB 1998).
"""

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
        self._buckets: NDArray[np.uint8] = np.zeros(0, np.uint8)
        """Slot -> bucket."""

    def mark(self, lowest: float, highest: float, out: Mask) -> Mask:
        """Mark the rows whose number lies between two bounds, both included.

        Takes one vectorized pass over the bytes, and corrects the rows of the two buckets that contain the bounds.

        Args:
            lowest: The lower bound.
            highest: The upper bound.
            out: Receives the marks of as many leading slots as it has elements. The mark of a slot without an active
                row is undefined.
        """
        index = self._index.refresh()
        buckets = self.refresh()._buckets[: len(out)]
        low, high = index.between(lowest, highest, 0, len(index.slots))
        lowest_bucket, highest_bucket = self._edges.searchsorted((lowest, highest), "right").tolist()
        if highest_bucket == BUCKETS - 1:
            np.greater_equal(buckets, lowest_bucket, out=out)
        else:
            # One comparison instead of two: the difference of a bucket below the lowest wraps around to a large number.
            np.less_equal(buckets - np.uint8(lowest_bucket), highest_bucket - lowest_bucket, out=out)
        out[index.slots[self._start_of(lowest_bucket) : low]] = False
        out[index.slots[high : self._end_of(highest_bucket)]] = False
        return out

    @property
    def nbytes(self) -> int:
        """The memory of the buckets, in bytes."""
        return self._buckets.nbytes + self._edges.nbytes

    def _start_of(self, bucket: int) -> int:
        """Return the rank of the first row of a bucket."""
        return int(self._index.values.searchsorted(self._edges[bucket - 1])) if bucket else 0

    def _end_of(self, bucket: int) -> int:
        """Return the rank after the last row of a bucket."""
        values = self._index.values
        return int(values.searchsorted(self._edges[bucket])) if bucket < BUCKETS - 1 else len(values)

    def _rebuild(self) -> int:
        values = self._index.refresh().values
        ranks = np.arange(1, BUCKETS) * len(values) // BUCKETS
        self._edges = values[ranks] if len(values) else np.zeros(BUCKETS - 1)
        self._buckets = self._quantize(self._columns.numbers[self._number])
        return len(values)

    def _update(self, changed: set[int]) -> int:
        numbers = self._columns.numbers[self._number]
        if len(numbers) != len(self._buckets):
            return self._rebuild()
        slots = list(changed)
        self._buckets[slots] = self._quantize(numbers[slots])
        return len(self._index.slots)

    def _quantize(self, values: Numbers) -> NDArray[np.uint8]:
        return self._edges.searchsorted(values, "right").astype(np.uint8)
