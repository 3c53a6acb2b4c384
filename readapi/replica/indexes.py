"""What scans need besides the columns: orders and steps, made when the first scan needs them."""

from collections.abc import Sequence

from readapi.replica.columns import Columns
from readapi.replica.lazy_index import Derived
from readapi.replica.quantized import Steps
from readapi.replica.sorted_indexes import ExpiryOrder, Order, TextOrder

BOUNDED = ("confidence", "relative_strength", "relative_volume", "rsi")
"""Columns that scans know bounds of."""


class Indexes:
    """The orders and steps of some columns."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._orders: dict[tuple[str, str | None], Order] = {}
        self._text_orders: dict[str, TextOrder] = {}
        self._steps: dict[str, Steps] = {}
        self.expiry = ExpiryOrder(columns, "expiry")

    def order(self, number: str, text: str | None = None) -> Order:
        """The rows by (text, number, key)."""
        order = self._orders.get((number, text))
        if order is None:
            order = self._orders[number, text] = Order(self._columns, number, text)
        return order.refresh()

    def text_order(self, text: str) -> TextOrder:
        """The rows by (text, key)."""
        order = self._text_orders.get(text)
        if order is None:
            order = self._text_orders[text] = TextOrder(self._columns, text)
        return order.refresh()

    def steps(self, number: str) -> Steps:
        """The steps of a column of numbers."""
        steps = self._steps.get(number)
        if steps is None:
            steps = self._steps[number] = Steps(self._columns, number, self.order(number))
        return steps

    def prepare(self) -> None:
        """Make all that scans need."""
        for number in self._columns.numbers.keys() - {"expiry"}:
            self.order(number)
        for number in BOUNDED:
            self.steps(number).refresh()
        for text in self._columns.codes:
            self.order("confidence", text)
        self.text_order("symbol")

    def touch(self, slots: Sequence[int]) -> None:
        """The rows in these slots have come, changed or gone."""
        for one in self._all():
            one.touch(slots)

    @property
    def nbytes(self) -> int:
        """The memory they take."""
        return sum(one.nbytes for one in self._all())

    def _all(self) -> list[Derived]:
        return [self.expiry, *self._orders.values(), *self._text_orders.values(), *self._steps.values()]
