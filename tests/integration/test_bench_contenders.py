"""The contenders of the query benchmark: the PostgreSQL queries against the oracle, and the check of the answers."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
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
from infra.bench.contenders.postgres import PostgresScans
from infra.bench.errors import BenchmarkError
from infra.bench.processes import run_module
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import MAX_OFFSET, Cursor, Page, Query, ResultRow, TooDeepError
from tests import servers
from tests.oracles import rows as oracle
from tests.pattern_queries import (
    NOW,
    few_or_many_rows,
    log_of_pattern,
    many_rows,
    pattern_queries,
    pattern_rows,
    without_missing,
)
from tests.tcp_ports import free_port

T = TypeVar("T")

oracle_settings = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Table(NamedTuple):
    """The table of patterns, its queries, and the event loop that runs them."""

    connection: psycopg.Connection
    queries: PostgresScans
    runner: asyncio.Runner

    def fill(self, rows: Mapping[str, PatternRow]) -> dict[str, ResultRow[PatternRow]]:
        """Replace the rows of the table. Return the rows as the queries return them."""
        result_rows = {
            key: ResultRow(row, log_of_pattern(key), position, key)
            for position, (key, row) in enumerate(rows.items(), start=1)
        }
        self.connection.execute("TRUNCATE patterns")
        postgres_table.copy_rows(self.connection, result_rows.values())
        return result_rows

    def query(self, call: Callable[[PostgresScans], Coroutine[Any, Any, T]]) -> T:
        """Run a call of the queries and return its result."""
        return self.runner.run(call(self.queries))


@pytest.fixture(scope="module")
def table(postgres_18_dsn: str) -> Iterator[Table]:
    """The table of the module."""
    with (
        servers.new_database(postgres_18_dsn) as dsn,
        psycopg.connect(dsn, autocommit=True) as connection,
        asyncio.Runner() as runner,
    ):
        postgres_table.create_table(connection, [])
        queries = PostgresScans(dsn)
        yield Table(connection, queries, runner)
        runner.run(queries.close())


def rows_in_upper_case(rows: list[PatternRow]) -> dict[str, PatternRow]:
    """Return rows by id with symbols in upper case, as the benchmark has them."""
    return {row.id: replace(row, symbol=row.symbol.upper()) for row in rows}


def assert_page(
    page: Page[PatternRow], expected: oracle.QueryResult, result_rows: Mapping[str, ResultRow[PatternRow]]
) -> None:
    assert [result.key for result in page.rows] == expected.keys
    assert page.total == expected.total
    assert page.end == expected.end
    for result in page.rows:
        assert result == result_rows[result.row.id]


benchmark_queries = pattern_queries().map(without_missing)
"""The benchmark asks for no rows without a number."""


@oracle_settings
@given(few_or_many_rows, st.lists(benchmark_queries, min_size=4, max_size=12))
def test_a_scan_equals_the_oracle(table: Table, rows: list[PatternRow], queries: list[Query]) -> None:
    patterns = rows_in_upper_case(rows)
    result_rows = table.fill(patterns)

    async def scan_all(table_queries: PostgresScans) -> list[Page[PatternRow]]:
        return [await table_queries.page(query) for query in queries]

    for query, page in zip(queries, table.query(scan_all), strict=True):
        assert_page(page, oracle.page(ActivePatterns, patterns, query), result_rows)


@oracle_settings
@given(few_or_many_rows, benchmark_queries, pattern_rows)
def test_a_cursor_continues_at_the_place_of_an_absent_row(
    table: Table, rows: list[PatternRow], query: Query, absent: PatternRow
) -> None:
    patterns = rows_in_upper_case(rows)
    result_rows = table.fill(patterns)
    query = query._replace(offset=0, after=Cursor(oracle.sort_value(ActivePatterns, absent, query.sort_by), absent.id))

    assert_page(
        table.query(lambda queries: queries.page(query)), oracle.page(ActivePatterns, patterns, query), result_rows
    )


def test_an_offset_over_the_limit_is_refused_unless_the_page_is_empty(table: Table) -> None:
    rows = many_rows(MAX_OFFSET + 500)
    table.fill(rows)
    total = oracle.page(ActivePatterns, rows, Query(NOW)).total
    assert total > MAX_OFFSET + 1

    with pytest.raises(TooDeepError, match=f"of {total}"):
        table.query(lambda queries: queries.page(Query(NOW, offset=MAX_OFFSET + 1)))
    assert table.query(lambda queries: queries.page(Query(NOW, offset=total))) == Page([], total, None)


class FixedAnswer(NamedTuple):
    """The answer of a contender to every scan."""

    contender: str
    source: str
    ids: str
    """The ids of the patterns, one letter each."""
    total: int


FIXED_ANSWERS = (
    FixedAnswer("replica", "replica", "ab", 2),
    FixedAnswer("redis", "redis", "ab", 2),
    FixedAnswer("postgres", "postgres", "ba", 2),
    FixedAnswer("before", "before", "ab", 3),
)


@contextmanager
def fixed_contender(answer: FixedAnswer) -> Iterator[RunningContender]:
    """Run a contender that gives the same answer to every scan."""
    port = free_port()
    body = {
        "patterns": [{"id": key} for key in answer.ids],
        "pagination": {"total": answer.total},
        "performance": {"source": answer.source},
    }
    with run_module(port, ("infra.bench.contenders.limit", str(port)), {}) as pid:
        with urlopen(Request(f"http://127.0.0.1:{port}/api/patterns/scan", orjson.dumps(body))) as response:
            assert response.status == 200
        yield RunningContender(answer.contender, port, pid)


@pytest.fixture(scope="module")
def contenders() -> Iterator[dict[str, RunningContender]]:
    """One contender for each of the fixed answers, by name. All processes start at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(len(FIXED_ANSWERS)) as pool:
        started = list(pool.map(stack.enter_context, map(fixed_contender, FIXED_ANSWERS)))
        yield {contender.name: contender for contender in started}


def test_the_benchmark_refuses_contenders_with_different_answers(contenders: dict[str, RunningContender]) -> None:
    right, same = contenders["replica"], contenders["redis"]
    body = query_bench.compare_answers([right, same], "A", symbols=10)
    assert body is not None
    assert orjson.loads(body)["performance"]["source"] == "replica"
    for wrong in (contenders["postgres"], contenders["before"]):
        with pytest.raises(BenchmarkError, match=f"replica and {wrong.name} answer /api/patterns/scan"):
            query_bench.compare_answers([right, same, wrong], "A", symbols=10)


def test_the_benchmark_refuses_a_contender_that_answers_from_another_store_or_lacks_patterns(
    contenders: dict[str, RunningContender], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_bench, "LOADING_SECONDS", 0.5)
    mislabelled = contenders["redis"]._replace(name="replica")
    with pytest.raises(BenchmarkError, match="it answers from redis"):
        query_bench.wait_until_loaded(mislabelled, 2)
    query_bench.wait_until_loaded(contenders["replica"], 2)
    with pytest.raises(BenchmarkError, match="with 2 of 3 patterns"):
        query_bench.wait_until_loaded(contenders["replica"], 3)
