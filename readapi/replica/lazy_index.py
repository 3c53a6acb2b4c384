"""What is derived from the replica's rows, and brought up to date only when it is next needed."""

from collections.abc import Iterable
from typing import Self

ANEW = 8
"""It is made anew once one in so many rows has changed."""


class Derived:
    """Notes which rows have changed since it was last up to date."""

    def __init__(self) -> None:
        self._changed: set[int] | None = None
        self._size = 0

    def touch(self, slots: Iterable[int]) -> None:
        """The rows in these slots have come, changed or gone."""
        if self._changed is not None:
            self._changed.update(slots)
            if len(self._changed) > self._size // ANEW + ANEW:
                self._changed = None

    def refresh(self) -> Self:
        """Be up to date."""
        if self._changed is None:
            self._size = self._make()
        elif self._changed:
            self._size = self._move(self._changed)
        else:
            return self
        self._changed = set()
        return self

    @property
    def nbytes(self) -> int:
        """The memory it takes."""
        raise NotImplementedError

    def _make(self) -> int:
        """Derive it from all rows; returns how many it is of."""
        raise NotImplementedError

    def _move(self, changed: set[int]) -> int:
        """Derive what these rows change; returns how many it is of."""
        raise NotImplementedError
