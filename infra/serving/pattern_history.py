"""The scan as of a moment, from the read model ``pattern_history`` in PostgreSQL, in one statement and one snapshot."""

from collections.abc import Callable, Sequence
from typing import Any, LiteralString, TypeVar

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

from domain.streams import MARKET_LOG
from infra.archive.pattern_history.projector import to_datetime
from infra.postgres.statements import load_statements
from infra.serving.archive import HISTORY_TIMEOUT_SECONDS, ArchiveGateway
from projections.pattern_history import NAME, Timeline, microseconds
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import (
    MAX_OFFSET,
    Cursor,
    HistoryPage,
    Page,
    PatternQuery,
    PatternSort,
    Positions,
    TooDeepError,
    read_result,
)

T = TypeVar("T")

_SORT_VALUES: dict[PatternSort, LiteralString] = {
    "confidence": "confidence",
    "detected_at": "detected_at",
    "symbol": "symbol",
    "rs": "coalesce(relative_strength, '-Infinity')",
    "volume": "coalesce(relative_volume, '-Infinity')",
}
"""The SQL expression of each sort. A missing value comes before every other value."""

_MARKET_LOGS = f"{MARKET_LOG}-%"
"""Pattern of the names of the market logs."""

_statements = load_statements(__package__)
_SELECT_FOLDED_POSITIONS = _statements["select_folded_positions"]
_SCAN = SQL(_statements["scan"])


class PostgresPatternHistory:
    """The history of patterns in PostgreSQL, for scans as of a moment.

    Args:
        archive: The gateway to the archive.
        logs: The names of all partitions of the market log.
    """

    def __init__(self, archive: ArchiveGateway, logs: Sequence[str]) -> None:
        self._archive = archive
        self._logs = logs

    async def scan(self, query: PatternQuery, timeline: Timeline) -> HistoryPage:
        """Return a page of the scan as of ``query.now``.

        Raises:
            TooDeepError: The page begins behind the last row that can be reached by number.
            UnavailableError: The archive cannot be reached, or does not answer in time.
        """
        return await self._run(lambda connection: self._scan(connection, query, timeline))

    async def folded(self) -> Positions:
        """Return the position up to which each log is folded. Raises UnavailableError."""
        return await self._run(self._folded)

    async def _run(self, operation: Callable[[Connection], T]) -> T:
        def run_connected() -> T:
            with self._archive.database.connection() as connection:
                return operation(connection)

        return await self._archive.run(run_connected, HISTORY_TIMEOUT_SECONDS)

    def _folded(self, connection: Connection) -> Positions:
        rows = connection.execute(_SELECT_FOLDED_POSITIONS, {"name": NAME, "logs": _MARKET_LOGS})
        return dict.fromkeys(self._logs, 0) | dict(rows.fetchall())

    def _scan(self, connection: Connection, query: PatternQuery, timeline: Timeline) -> HistoryPage:
        if query.offset > MAX_OFFSET:
            empty = self._scan(connection, query._replace(offset=0, limit=0), timeline)
            if query.offset < empty.page.total:
                raise TooDeepError(
                    f"The page begins at row {query.offset} of {empty.page.total}, but pages by number reach only the "
                    f"first {MAX_OFFSET} rows. Use a cursor for the following rows."
                )
            return empty
        with connection.pipeline():  # The beginning of the transaction travels in the same round trip.
            cursor = connection.execute(_scan_statement(query, timeline), _scan_values(query), prepare=False)
        rows = cursor.fetchall()
        version, folded, total, *_ = rows[0]
        results = [
            (value, read_result(PatternRow, log, document)) for *_, value, log, document in rows if document is not None
        ]
        page, following = results[: query.limit], results[query.limit :]
        end = Cursor(page[-1][0], page[-1][1].row.id) if following and page else None
        return HistoryPage(
            Page([row for _, row in page], total, end),
            version or ActivePatterns.version,
            dict.fromkeys(self._logs, 0) | {log: position for log, position, _ in folded or ()},
            dict.fromkeys(self._logs, 0.0) | {log: recorded_at for log, _, recorded_at in folded or ()},
        )


def _scan_statement(query: PatternQuery, timeline: Timeline) -> Composed:
    return _SCAN.format(
        table=Identifier("tickview", f"{NAME}_{timeline}"),
        value=SQL(_SORT_VALUES[query.sort_by]),
        order=SQL("DESC" if query.descending else "ASC"),
        behind=SQL("<" if query.descending else ">"),
    )


def _scan_values(query: PatternQuery) -> dict[str, Any]:
    """Return the parameters of a scan. A filter that is not set is None."""
    rsi_min, rsi_max = query.rsi_range or (None, None)
    after, key = (query.after.value, query.after.key) if query.after else (None, None)
    return {
        "name": NAME,
        "logs": _MARKET_LOGS,
        "moment": to_datetime(microseconds(query.now)),
        "confidence_min": query.confidence_min,
        "symbols": None if query.symbols is None else list(query.symbols),
        "patterns": list(query.pattern_types) or None,
        "tiers": list(query.tiers) or None,
        "rs_min": query.rs_min,
        "vol_min": query.vol_min,
        "rsi_min": rsi_min,
        "rsi_max": rsi_max,
        "after": after,
        "key": key,
        "limit": query.limit + 1 if query.limit else 0,
        "offset": query.offset,
    }
