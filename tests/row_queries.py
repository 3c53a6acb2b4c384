"""Rows of any read model in memory, queried by the oracle."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from projections.base import Projection
from projections.queries import Counts, Cursor, Page, Query, ResultRow
from tests.oracles import rows as oracle


class OracleQueries:
    """The port ``RowQueries`` over given rows. The provenance of the rows is arbitrary."""

    source = "oracle"

    def __init__(self, projection: type[Projection[Any, Any]], rows: Mapping[str, Any]) -> None:
        self._projection = projection
        self._rows = rows

    def state(self, now: float) -> None:
        """Return None: the state is not known."""

    async def page(self, query: Query) -> Page[Any]:
        """Implement ``RowQueries``."""
        keys, total, end = oracle.page(self._projection, self._rows, query)
        return Page([self._result(key) for key in keys], total, end and Cursor(*end))

    async def get(self, key: str, now: float) -> ResultRow[Any] | None:
        """Implement ``RowQueries``."""
        return next(iter(await self.get_many([key], now)), None)

    async def get_many(self, keys: Collection[str], now: float) -> Sequence[ResultRow[Any]]:
        """Implement ``RowQueries``."""
        return [
            self._result(key)
            for key in keys
            if key in self._rows and not oracle.has_ended(self._projection, self._rows[key], now)
        ]

    async def counts(self, names: Sequence[str], now: float) -> Mapping[str, Counts]:
        """Implement ``RowQueries``."""
        counts = {name: oracle.counts(self._projection, self._rows, name, now) for name in names}
        return {name: Counts(dict(groups), total, distinct) for name, (groups, total, distinct) in counts.items()}

    def _result(self, key: str) -> ResultRow[Any]:
        return ResultRow(self._rows[key], "market-0", 1, key)
