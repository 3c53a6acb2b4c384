"""Values derived from all rows of a replica, computed anew when the replica has changed."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

from projections.queries import ALWAYS, ResultRow
from readapi.ports.errors import UnavailableError
from readapi.ports.read_models import LiveRows
from readapi.replica.replica import Replica

Value = TypeVar("Value")


class Derived(Generic[Value]):
    """A value derived from all rows of a read model of the catalogue. A sector, for example, has some of the symbols.

    Args:
        derive: Computes the value from all rows, in the order of their keys.
    """

    def __init__(self, derive: Callable[[Iterable[ResultRow[Any]]], Value]) -> None:
        self._derive = derive
        self._computed: tuple[Hashable, Value] | None = None

    def of(self, live: LiveRows[Any]) -> Value:
        """Return the value for a build. Raises UnavailableError if no replica of the build is loaded yet."""
        replica = live.queries
        if not isinstance(replica, Replica):
            raise UnavailableError("the catalogue is being loaded; try again")
        state = replica.state(ALWAYS)
        if self._computed is None or self._computed[0] != state:
            self._computed = state, self._derive(replica.rows())
        return self._computed[1]
