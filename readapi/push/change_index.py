"""The changes of one update by the values of columns, so that narrow filters do not test changes that they exclude."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from projections.queries import AnyProjection, Equality
from readapi.push.changes import Change


class ChangeIndex:
    """The changes of one update, in order, and an index of each column by which a subscription filters.

    An index is built when the first filter needs it, and is shared by all subscriptions.

    Args:
        projection: The projection of the changed rows.
        changes: The changes.
    """

    def __init__(self, projection: AnyProjection, changes: Sequence[Change]) -> None:
        self._projection = projection
        self._changes = changes
        self._of_unknown_rows = [number for number, change in enumerate(changes) if not change.knows_old]
        """The numbers of the changes whose old rows are unknown, and may have any value."""
        self._columns: dict[str, dict[str | None, list[int]]] = {}

    def candidates(self, narrowest: Equality | None) -> Sequence[Change]:
        """Return the changes, in order, whose old or new row can have a value of a filter. None: all changes."""
        if narrowest is None or len(narrowest.values) >= len(self._changes):
            return self._changes
        column = self._columns.get(narrowest.column)
        if column is None:
            column = self._columns[narrowest.column] = self._index(narrowest.column)
        numbers = set(self._of_unknown_rows)
        for value in narrowest.values:
            if value in column:
                numbers.update(column[value])
        return [self._changes[number] for number in sorted(numbers)]

    def _index(self, name: str) -> dict[str | None, list[int]]:
        """Return the numbers of the changes by the values of a column."""
        value_of = self._value_of(name)
        numbers = defaultdict[str | None, list[int]](list)
        for number, change in enumerate(self._changes):
            for value in {value_of(change.key, row) for row in (change.old, change.new) if row is not None}:
                numbers[value].append(number)
        return dict(numbers)

    def _value_of(self, name: str) -> Callable[[str, Any], str | None]:
        """Return the function that returns the value of a row, as filters write it."""
        if name == self._projection.key:
            return lambda key, _row: key
        group_of = self._projection.columns[name].group_of()
        return lambda _key, row: group_of(row)
