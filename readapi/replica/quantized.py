"""Answers bounds on a whole column of numbers by one byte a row.

A column's values are cut into 256 steps of about as many rows each, and every row remembers its step. A bound is then a
comparison of bytes; only the rows of the step that the bound cuts through are looked at again, by their order. The idea
is that of the VA-file (Weber, Schek, Blott: "A Quantitative Analysis and Performance Study for Similarity-Search
Methods in High-Dimensional Spaces", VLDB 1998).
"""

import numpy as np
from numpy.typing import NDArray

from readapi.replica.columns import Columns, Mask, Numbers
from readapi.replica.lazy_index import Derived
from readapi.replica.sorted_indexes import Order

STEPS = 256


class Steps(Derived):
    """The steps of one column; ``order`` is the order of its rows."""

    def __init__(self, columns: Columns, number: str, order: Order) -> None:
        super().__init__()
        self._columns = columns
        self._number = number
        self._order = order
        self._edges: Numbers = np.zeros(0)
        self._steps: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def mark(self, lowest: float, highest: float, out: Mask) -> Mask:
        """Set ``out``, for the slots it has room for, to whether the number lies between two bounds, both included.

        Where a slot has no active row, it says nothing.
        """
        order = self._order.refresh()
        steps = self.refresh()._steps[: len(out)]
        low, high = order.between(lowest, highest, 0, len(order.slots))
        lowest_step, highest_step = self._edges.searchsorted((lowest, highest), "right").tolist()
        if highest_step == STEPS - 1:
            np.greater_equal(steps, lowest_step, out=out)
        else:
            # One comparison for two: what lies below the lowest wraps around.
            np.less_equal(steps - np.uint8(lowest_step), highest_step - lowest_step, out=out)
        out[order.slots[self._start_of(lowest_step) : low]] = False
        out[order.slots[high : self._end_of(highest_step)]] = False
        return out

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        return self._steps.nbytes + self._edges.nbytes

    def _start_of(self, step: int) -> int:
        return int(self._order.values.searchsorted(self._edges[step - 1])) if step else 0

    def _end_of(self, step: int) -> int:
        values = self._order.values
        return int(values.searchsorted(self._edges[step])) if step < STEPS - 1 else len(values)

    def _make(self) -> int:
        values = self._order.refresh().values
        places = np.arange(1, STEPS) * len(values) // STEPS
        self._edges = values[places] if len(values) else np.zeros(STEPS - 1)
        self._steps = self._steps_of(self._columns.numbers[self._number])
        return len(values)

    def _move(self, changed: set[int]) -> int:
        numbers = self._columns.numbers[self._number]
        if len(numbers) != len(self._steps):
            return self._make()
        slots = list(changed)
        self._steps[slots] = self._steps_of(numbers[slots])
        return len(self._order.slots)

    def _steps_of(self, values: Numbers) -> NDArray[np.uint8]:
        return self._edges.searchsorted(values, "right").astype(np.uint8)
