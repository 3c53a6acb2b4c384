"""Lazy indexes: structures derived from the replica's rows that are brought up to date when a query needs them."""

from collections.abc import Iterable
from typing import Self

REBUILD_FRACTION = 8
"""An index is rebuilt instead of updated if more than 1 / ``REBUILD_FRACTION`` of its rows have changed."""


class LazyIndex:
    """Base of all lazy indexes.

    A change of a row only notes the row's slot. The next query updates the index for all noted slots together, or
    rebuilds it if many rows have changed. Commits are thus cheap, and bursts of commits cost one update.
    """

    def __init__(self) -> None:
        self._changed: set[int] | None = None
        """Slots that have changed since the last refresh. None if the index must be rebuilt."""
        self._size = 0

    def touch(self, slots: Iterable[int]) -> None:
        """Note that the rows in these slots were added, changed or removed."""
        if self._changed is not None:
            self._changed.update(slots)
            if len(self._changed) > self._size // REBUILD_FRACTION + REBUILD_FRACTION:
                self._changed = None

    def reset(self) -> None:
        """Let the next query rebuild the index."""
        self._changed = None

    def refresh(self) -> Self:
        """Bring the index up to date and return it."""
        if self._changed is None:
            self._size = self._rebuild()
        elif self._changed:
            self._size = self._update(self._changed)
        else:
            return self
        self._changed = set()
        return self

    @property
    def nbytes(self) -> int:
        """The memory of the index, in bytes."""
        raise NotImplementedError

    def _rebuild(self) -> int:
        """Derive the index from all rows. Return the number of rows in it."""
        raise NotImplementedError

    def _update(self, changed: set[int]) -> int:
        """Update the index for some slots. Return the number of rows in it."""
        raise NotImplementedError
