"""What benchmarks measure TickView against: PostgreSQL answers as the port says, and who does not is not measured."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar
from urllib.request import Request, urlopen

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.bench import query as query_bench
from infra.bench.contenders import postgres_table
from infra.bench.contenders.launcher import RunningContender
from infra.bench.contenders.postgres import PostgresPatternQueries
from infra.bench.errors import BenchmarkError
from infra.bench.processes import run_module
from infra.embedded.ports import find_free_port
from projections.patterns import PatternRow
from projections.queries import MAX_OFFSET, Cursor, Page, PatternQuery, ResultRow, TooDeepError
from tests import servers
from tests.oracles import queries as oracle
from tests.pattern_queries import (
    NOW,
    PATTERN_TYPES,
    SYMBOLS,
    TIERS,
    few_or_many_rows,
    log_of_pattern,
    many_rows,
    pattern_queries,
    pattern_row,
    pattern_rows,
    rows_by_id,
)

T = TypeVar("T")

on_a_server = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Table(NamedTuple):
    """The table, and a connection to it."""

    dsn: str
    connection: psycopg.Connection

    def fill(self, rows: Mapping[str, PatternRow]) -> dict[str, ResultRow[PatternRow]]:
        """Hold these rows alone; they, as they are to be found."""
        found = {
            key: ResultRow(row, log_of_pattern(key), position)
            for position, (key, row) in enumerate(rows.items(), start=1)
        }
        self.connection.execute("TRUNCATE patterns")
        postgres_table.copy_rows(self.connection, found.values())
        return found

    def ask(self, question: Callable[[PostgresPatternQueries], Awaitable[T]]) -> T:
        """What the queries answer."""

        async def run() -> T:
            queries = PostgresPatternQueries(self.dsn)
            try:
                return await question(queries)
            finally:
                await queries.close()

        return asyncio.run(run())


@pytest.fixture(scope="module")
def table(postgres_18_dsn: str) -> Iterator[Table]:
    """One for the module."""
    with servers.new_database(postgres_18_dsn) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        postgres_table.create_table(connection, [])
        yield Table(dsn, connection)


def assert_page(
    page: Page[PatternRow], expected: oracle.QueryResult, found: Mapping[str, ResultRow[PatternRow]]
) -> None:
    assert [one.row.id for one in page.rows] == expected.ids
    assert page.total == expected.total
    assert page.end == expected.end
    for one in page.rows:
        assert one == found[one.row.id]


@on_a_server
@given(few_or_many_rows, st.lists(pattern_queries(), min_size=4, max_size=12))
def test_a_scan_equals_the_oracle(table: Table, rows: list[PatternRow], queries: list[PatternQuery]) -> None:
    held = rows_by_id(rows)
    found = table.fill(held)

    async def all_pages(asked: PostgresPatternQueries) -> list[Page[PatternRow]]:
        return [await asked.scan(query) for query in queries]

    for query, page in zip(queries, table.ask(all_pages), strict=True):
        assert_page(page, oracle.scan(held.values(), query), found)


@on_a_server
@given(few_or_many_rows, pattern_queries(), pattern_rows)
def test_a_cursor_goes_on_where_its_row_would_be(
    table: Table, rows: list[PatternRow], query: PatternQuery, absent: PatternRow
) -> None:
    held = rows_by_id(rows)
    found = table.fill(held)
    query = query._replace(offset=0, after=Cursor(oracle.sort_value(absent, query.sort_by), absent.id))

    assert_page(table.ask(lambda asked: asked.scan(query)), oracle.scan(held.values(), query), found)


def test_what_lies_too_deep_is_refused_unless_nothing_is_there(table: Table) -> None:
    rows = many_rows(MAX_OFFSET + 500)
    table.fill(rows)
    total = oracle.scan(rows.values(), PatternQuery(NOW)).total
    assert total > MAX_OFFSET + 1

    with pytest.raises(TooDeepError, match=f"of {total}"):
        table.ask(lambda asked: asked.scan(PatternQuery(NOW, offset=MAX_OFFSET + 1)))
    assert table.ask(lambda asked: asked.scan(PatternQuery(NOW, offset=total))) == Page([], total, None)


@on_a_server
@given(few_or_many_rows, st.sampled_from((0.0, NOW, NOW + 200)))
def test_statistics_equal_the_oracle(table: Table, rows: list[PatternRow], now: float) -> None:
    held = rows_by_id(rows)
    table.fill(held)
    statistics = asdict(table.ask(lambda asked: asked.statistics(now)))
    ordered = {name: list(value.items()) if isinstance(value, dict) else value for name, value in statistics.items()}
    assert ordered == oracle.statistics(held.values(), now)


def test_one_pattern(table: Table) -> None:
    rows = rows_by_id(
        pattern_row(symbol, PATTERN_TYPES[0], TIERS[0], 900.0, 0.5, expires_at=expires_at)
        for symbol, expires_at in zip(SYMBOLS, (None, NOW, NOW + 1, None, None, None, None, None), strict=True)
    )
    found = table.fill(rows)

    async def get_all(asked: PostgresPatternQueries) -> list[Any]:
        return [await asked.get(key, NOW) for key in (*rows, "absent")]

    assert table.ask(get_all) == [
        *(None if one.row.expires_at == NOW else one for one in found.values()),
        None,
    ]


@contextmanager
def constant(name: str, source: str, ids: Iterable[str], total: int) -> Iterator[RunningContender]:
    """A server that answers every scan with these patterns, under the name of a contender."""
    port = find_free_port("127.0.0.1")
    body = {
        "patterns": [{"id": key} for key in ids],
        "pagination": {"total": total},
        "performance": {"source": source},
    }
    with run_module(port, ("infra.bench.contenders.limit", str(port)), {}) as pid:
        with urlopen(Request(f"http://127.0.0.1:{port}/api/patterns/scan", orjson.dumps(body))) as posted:
            assert posted.status == 200
        yield RunningContender(name, port, pid)


def test_who_answers_otherwise_than_the_others_is_found() -> None:
    with ExitStack() as stack:
        right = stack.enter_context(constant("replica", "replica", "ab", 2))
        same = stack.enter_context(constant("redis", "redis", "ab", 2))
        swapped = stack.enter_context(constant("postgres", "postgres", "ba", 2))
        more = stack.enter_context(constant("before", "before", "ab", 3))

        body = query_bench.compare_answers([right, same], "A", symbols=10)
        assert body is not None
        assert orjson.loads(body)["performance"]["source"] == "replica"
        for wrong in (swapped, more):
            with pytest.raises(BenchmarkError, match=f"replica and {wrong.name} answer /api/patterns/scan"):
                query_bench.compare_answers([right, same, wrong], "A", symbols=10)


def test_who_is_not_what_it_claims_to_be_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_bench, "LOADING_SECONDS", 1)
    with constant("replica", "redis", "ab", 2) as one, pytest.raises(BenchmarkError, match="it answers from redis"):
        query_bench.wait_until_loaded(one, 2)
    with constant("replica", "replica", "ab", 2) as one:
        query_bench.wait_until_loaded(one, 2)
        with pytest.raises(BenchmarkError, match="with 2 of 3 patterns"):
            query_bench.wait_until_loaded(one, 3)
