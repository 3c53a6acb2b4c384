"""The scan as of a moment, answered from ``pattern_history`` in PostgreSQL: in one statement, from one snapshot."""

from collections.abc import Callable, Sequence
from typing import Any, LiteralString, TypeVar

from psycopg import Connection
from psycopg.sql import SQL, Composed

from domain.streams import MARKET_LOG
from infra.archive.pattern_history.projector import to_datetime
from infra.serving.archive import HISTORY_TIMEOUT_SECONDS, ArchiveGateway
from projections.base import read_row
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
    ResultRow,
    TooDeepError,
)

T = TypeVar("T")

_SORT_VALUES: dict[PatternSort, LiteralString] = {
    "confidence": "confidence",
    "detected_at": "detected_at",
    "symbol": "symbol",
    "rs": "coalesce(relative_strength, '-Infinity')",
    "volume": "coalesce(relative_volume, '-Infinity')",
}

_POSITIONS = """
SELECT logs.log, coalesce(segment.position, 0), coalesce(extract(epoch FROM segment.recorded_at)::float8, 0)
FROM tickview.logs
LEFT JOIN tickview.segments AS segment ON segment.name = %(name)s AND segment.log = logs.log
    AND segment.version = (SELECT version FROM tickview.live_versions WHERE name = %(name)s)
WHERE logs.log LIKE %(logs)s
"""

# Only the rows of the page are fetched whole.
_SCAN = """
WITH live AS (
    SELECT (SELECT version FROM tickview.live_versions WHERE name = %(name)s) AS version
), found AS MATERIALIZED (
    SELECT symbol, id, {value} AS value FROM {table}
    WHERE version = (SELECT version FROM live) AND span @> %(moment)s AND {filters}
), page AS (
    SELECT * FROM found WHERE {behind} ORDER BY value {order}, id {order} LIMIT %(limit)s OFFSET %(offset)s
)
SELECT live.version,
    (SELECT json_agg(json_build_array(log, position, moment)) FROM ({positions}) AS folded (log, position, moment)),
    (SELECT count(*) FROM found), page.value, history.log, history.document
FROM live LEFT JOIN (
    page JOIN {table} AS history ON history.version = (SELECT version FROM live) AND history.symbol = page.symbol
        AND history.id = page.id AND history.span @> %(moment)s
) ON true
ORDER BY page.value {order}, page.id {order}
"""


class PostgresPatternHistory:
    """``pattern_history``; ``logs`` are all partitions of the market log."""

    def __init__(self, archive: ArchiveGateway, logs: Sequence[str]) -> None:
        self._archive = archive
        self._logs = logs

    async def scan(self, query: PatternQuery, timeline: Timeline) -> HistoryPage:
        """The page of the scan at ``query.now``. Raises TooDeepError, UnavailableError."""
        return await self._ask(lambda connection: self._scan(connection, query, timeline))

    async def folded(self) -> Positions:
        """The position up to which each log is folded. Raises UnavailableError."""
        return await self._ask(self._folded)

    async def _ask(self, question: Callable[[Connection], T]) -> T:
        def connected() -> T:
            with self._archive.database.connection() as connection:
                return question(connection)

        return await self._archive.ask(connected, HISTORY_TIMEOUT_SECONDS)

    def _folded(self, connection: Connection) -> Positions:
        found = connection.execute(_POSITIONS, {"name": NAME, "logs": f"{MARKET_LOG}-%"})
        return dict.fromkeys(self._logs, 0) | {log: position for log, position, _ in found}

    def _scan(self, connection: Connection, query: PatternQuery, timeline: Timeline) -> HistoryPage:
        if query.offset > MAX_OFFSET:
            empty = self._scan(connection, query._replace(offset=0, limit=0), timeline)
            if query.offset < empty.page.total:
                raise TooDeepError(
                    f"row {query.offset} of {empty.page.total}: only the first {MAX_OFFSET} can be paged past by "
                    "number; go on with a cursor"
                )
            return empty
        statement, values = _statement(query, timeline)
        with connection.pipeline():  # The transaction begins in the same round trip.
            answer = connection.execute(statement, values, prepare=False)
        rows = answer.fetchall()
        version, folded, total, *_ = rows[0]
        found = [(value, _found(log, document)) for *_, value, log, document in rows if document is not None]
        page, more = found[: query.limit], found[query.limit :]
        end = Cursor(page[-1][0], page[-1][1].row.id) if more and page else None
        return HistoryPage(
            Page([one for _, one in page], total, end),
            version or ActivePatterns.version,
            dict.fromkeys(self._logs, 0) | {log: position for log, position, _ in folded or ()},
            dict.fromkeys(self._logs, 0.0) | {log: recorded_at for log, _, recorded_at in folded or ()},
        )


def _found(log: str, document: bytes) -> ResultRow[PatternRow]:
    row, position = read_row(PatternRow, document)
    return ResultRow(row, log, position)


def _statement(query: PatternQuery, timeline: Timeline) -> tuple[Composed, dict[str, Any]]:
    filters, values = _filters(query)
    behind = "true"
    if query.after:
        behind = "(value, id) < (%(after)s, %(key)s)" if query.descending else "(value, id) > (%(after)s, %(key)s)"
        values |= {"after": query.after.value, "key": query.after.key}
    values |= {
        "name": NAME,
        "logs": f"{MARKET_LOG}-%",
        "moment": to_datetime(microseconds(query.now)),
        "limit": query.limit + 1 if query.limit else 0,
        "offset": query.offset,
    }
    statement = SQL(_SCAN).format(
        value=SQL(_SORT_VALUES[query.sort_by]),
        table=SQL("tickview.pattern_history_recorded" if timeline == "recorded" else "tickview.pattern_history_valid"),
        filters=SQL(" AND ").join(map(SQL, filters)),
        behind=SQL(behind),
        order=SQL("DESC" if query.descending else "ASC"),
        positions=SQL(_POSITIONS),
    )
    return statement, values


def _filters(query: PatternQuery) -> tuple[list[LiteralString], dict[str, Any]]:
    """The conditions, and what stands in them."""
    conditions: list[LiteralString] = ["confidence >= %(confidence_min)s"]
    values: dict[str, Any] = {"confidence_min": query.confidence_min}
    named: tuple[tuple[LiteralString, str, Any], ...] = (
        ("symbol = ANY(%(symbols)s)", "symbols", None if query.symbols is None else list(query.symbols)),
        ("pattern = ANY(%(patterns)s)", "patterns", list(query.pattern_types) or None),
        ("tier = ANY(%(tiers)s)", "tiers", list(query.tiers) or None),
        ("relative_strength >= %(rs_min)s", "rs_min", query.rs_min),
        ("relative_volume >= %(vol_min)s", "vol_min", query.vol_min),
        ("rsi >= %(rsi_min)s", "rsi_min", query.rsi_range and query.rsi_range[0]),
        ("rsi <= %(rsi_max)s", "rsi_max", query.rsi_range and query.rsi_range[1]),
    )
    for condition, name, value in named:
        if value is not None:
            conditions.append(condition)
            values[name] = value
    return conditions, values
