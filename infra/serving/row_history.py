"""Queries of a read model as of a moment, from its history in PostgreSQL, in one statement and one snapshot."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.sql import SQL, Composable, Composed, Identifier, Placeholder

from domain.streams import MARKET_LOG, is_market_log
from infra.archive.row_history.tables import (
    HistoryTables,
    group_column,
    number_column,
    original,
    storable,
    text_column,
    to_datetime,
)
from infra.postgres.database import Database
from infra.postgres.statements import load_statements
from infra.serving.archive import HISTORY_TIMEOUT_SECONDS, ArchiveServers
from projections.queries import (
    MAX_OFFSET,
    AnyProjection,
    Cursor,
    Equality,
    Filter,
    HistoryPage,
    Page,
    Positions,
    Query,
    Timeline,
    TooDeepError,
    read_result,
)
from projections.row_history import microseconds

_MARKET_LOGS = f"{MARKET_LOG}-%"
"""Pattern of the names of the market logs."""

_PRESENT = "+"
"""The first character of a text as a sort value. The sort value of a missing text is the empty text."""

_statements = load_statements(__package__)
_SELECT_FOLDED_POSITIONS = _statements["select_folded_positions"]
_PAGE = SQL(_statements["page"])


class PostgresHistory:
    """The history of a read model in PostgreSQL, for queries as of a moment.

    Args:
        archive: The servers of the archive.
        projection: The projection of the read model.
        logs: The names of the logs, with all partitions of the market log. They may become more.
    """

    def __init__(self, archive: ArchiveServers, projection: AnyProjection, logs: Collection[str]) -> None:
        self._archive = archive
        self._projection = projection
        self._tables = HistoryTables(projection)
        self._logs = logs
        self._with_tables: set[Database] = set()
        """The servers that are known to have the tables of the history."""

    async def page(self, query: Query, timeline: Timeline) -> HistoryPage:
        """Return a page of the rows that matched as of the time ``query.now``.

        Raises:
            TooDeepError: The page begins after ``MAX_OFFSET``, and there are matching rows.
            UnavailableError: The archive cannot be reached, or does not answer in time.
        """

        def read_page(database: Database) -> HistoryPage:
            with database.connection() as connection:
                self._ensure_tables(database, connection)
                return self._page(connection, query, timeline)

        return await self._archive.read(read_page, HISTORY_TIMEOUT_SECONDS)

    async def folded(self) -> Positions:
        """Return the position up to which each log is folded. Raises UnavailableError."""
        return await self._archive.read(self._folded, HISTORY_TIMEOUT_SECONDS)

    def _folded(self, database: Database) -> Positions:
        with database.connection() as connection:
            rows = connection.execute(_SELECT_FOLDED_POSITIONS, {"name": self._tables.name, "logs": _MARKET_LOGS})
            return dict.fromkeys(self._folded_logs(), 0) | dict(rows.fetchall())

    def _folded_logs(self) -> list[str]:
        return [log for log in self._logs if is_market_log(log)]

    def _ensure_tables(self, database: Database, connection: Connection) -> None:
        """Create the tables: an archiver does so when it first folds, which may be later. A standby refuses this."""
        if database not in self._with_tables:
            self._tables.create(connection)
            connection.commit()
            self._with_tables.add(database)

    def _page(self, connection: Connection, query: Query, timeline: Timeline) -> HistoryPage:
        if query.offset > MAX_OFFSET:
            empty = self._page(connection, query._replace(offset=0, limit=0), timeline)
            if query.offset < empty.page.total:
                raise TooDeepError(query, empty.page.total)
            return empty
        order = _order_of(self._projection, query)
        statement, values = self._statement(query, timeline, order)
        with connection.pipeline():  # The beginning of the transaction travels in the same round trip.
            cursor = connection.execute(statement, values, prepare=False)
        rows = cursor.fetchall()
        version, folded, total, *_ = rows[0]
        results = [
            (value, read_result(self._projection.row, log, original(key), document))
            for *_, value, log, key, document in rows
            if document is not None
        ]
        page, following = results[: query.limit], results[query.limit :]
        end = Cursor(order.decode(page[-1][0]), page[-1][1].key) if following and page else None
        return HistoryPage(
            Page([row for _, row in page], total, end),
            version or self._projection.version,
            dict.fromkeys(self._folded_logs(), 0) | {log: position for log, position, _ in folded or ()},
            dict.fromkeys(self._folded_logs(), 0.0) | {log: recorded_at for log, _, recorded_at in folded or ()},
        )

    def _statement(self, query: Query, timeline: Timeline, order: "_Order") -> tuple[Composed, dict[str, Any]]:
        """Return the statement of a page and its parameters."""
        filters: list[Composable] = []
        values = {
            "name": self._tables.name,
            "logs": _MARKET_LOGS,
            "moment": to_datetime(microseconds(query.now)),
            "after": order.encode(query.after.value) if query.after else None,
            "key": storable(query.after.key) if query.after else None,
            "limit": query.limit + 1 if query.limit else 0,
            "offset": query.offset,
        }
        for number, filter_ in enumerate(query.filters):
            condition, parameters = _condition(self._projection, filter_, f"filter_{number}")
            filters.append(condition)
            values |= parameters
        statement = _PAGE.format(
            table=self._tables.history,
            span=Identifier(timeline),
            value=order.value,
            filters=SQL(" ").join(filters),
            order=SQL("DESC" if query.descending else "ASC"),
            behind=SQL("<" if query.descending else ">"),
        )
        return statement, values


class _Order(NamedTuple):
    """The order of the rows of a query: the SQL expression of the sort value, and the conversion of cursors."""

    value: Composable
    encode: Callable[[Any], Any]
    """Converts the value of a cursor to a sort value."""
    decode: Callable[[Any], Any]
    """Converts a sort value to the value of a cursor."""


def _order_of(projection: AnyProjection, query: Query) -> _Order:
    if query.sort_by is None:
        return _Order(SQL("0"), lambda _value: 0, lambda _value: None)
    if projection.columns[query.sort_by].has_scores:
        number = SQL("coalesce({}, '-Infinity')").format(Identifier(number_column(query.sort_by)))
        return _Order(number, float, float)
    text = SQL("coalesce('+' || {}, '')").format(Identifier(text_column(query.sort_by)))
    return _Order(
        text,
        lambda value: "" if value is None else _PRESENT + storable(value),
        lambda value: original(value[1:]) if value else None,
    )


def _condition(projection: AnyProjection, filter_: Filter, name: str) -> tuple[Composed, dict[str, Any]]:
    """Return the SQL condition of a filter and its parameters.

    The condition begins with AND, and the names of the parameters begin with ``name``.
    """
    if isinstance(filter_, Equality):
        column = "key" if filter_.column == projection.key else group_column(filter_.column)
        condition = SQL("AND {} = ANY({}::text[])").format(Identifier(column), Placeholder(name))
        return condition, {name: [storable(value) for value in filter_.values]}
    lowest, highest = f"{name}_lowest", f"{name}_highest"
    column_name = Identifier(number_column(filter_.column))
    condition = SQL("{} BETWEEN {}::float8 AND {}::float8").format(
        column_name, Placeholder(lowest), Placeholder(highest)
    )
    if filter_.missing_matches:
        condition = SQL("({} OR {} IS NULL)").format(condition, column_name)
    return SQL("AND ") + condition, {lowest: filter_.lowest, highest: filter_.highest}
