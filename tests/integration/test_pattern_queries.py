"""Queries of ``patterns`` on the indexes in Redis: the results equal the oracle's on every supported server."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from infra.read_models.pattern_queries import RedisPatternQueries
from infra.redis.connections import connect
from projections.patterns import PatternRow
from projections.queries import Cursor, Page, PatternQuery
from tests.integration.pattern_query_support import assert_page, call, statistics_of, write_rows
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


class Server(NamedTuple):
    """The URL of a server and a client of the server."""

    url: str
    client: Redis


on_a_server = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(params=["valkey_url", "redis_7_0_url"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each supported Redis server."""
    url = request.getfixturevalue(request.param)
    with connect(url) as client:
        yield Server(url, client)


@on_a_server
@given(
    few_or_many_rows,
    st.lists(st.tuples(pattern_rows, st.booleans()), max_size=15),
    st.lists(pattern_queries(), min_size=4, max_size=12),
)
def test_a_scan_equals_the_oracle(
    server: Server, rows: list[PatternRow], changes: list[tuple[PatternRow, bool]], queries: list[PatternQuery]
) -> None:
    initial = rows_by_id(rows)
    later = {row.id: None if removed else row for row, removed in changes}
    writers = write_rows(server.client, initial, later)
    remaining = [row for row in (initial | later).values() if row is not None]

    async def scan_all(redis_queries: RedisPatternQueries) -> list[Page[PatternRow]]:
        return [await redis_queries.scan(query) for query in queries]

    for query, page in zip(queries, call(server.url, scan_all), strict=True):
        assert_page(page, oracle.scan(remaining, query), writers)


@on_a_server
@given(few_or_many_rows, pattern_queries())
def test_pages_by_cursor_make_up_the_complete_result(
    server: Server, rows: list[PatternRow], query: PatternQuery
) -> None:
    stored = rows_by_id(rows)
    write_rows(server.client, stored)
    query = query._replace(offset=0)
    expected = oracle.scan(stored.values(), query._replace(limit=1_000))

    async def read_all_pages(queries: RedisPatternQueries) -> list[Page[PatternRow]]:
        pages = [await queries.scan(query)]
        while pages[-1].end is not None and len(pages) <= expected.total:
            pages.append(await queries.scan(query._replace(after=pages[-1].end)))
        return pages

    pages = call(server.url, read_all_pages)
    assert [result.row.id for page in pages for result in page.rows] == expected.ids
    assert {page.total for page in pages} == {expected.total}
    assert len(pages) == max(1, -(-expected.total // query.limit))


@on_a_server
@given(few_or_many_rows, pattern_queries(), pattern_rows)
def test_a_cursor_continues_at_the_place_of_its_row_even_if_the_row_is_absent(
    server: Server, rows: list[PatternRow], query: PatternQuery, absent: PatternRow
) -> None:
    stored = rows_by_id(rows)
    writers = write_rows(server.client, stored)
    query = query._replace(offset=0, after=Cursor(oracle.sort_value(absent, query.sort_by), absent.id))

    assert_page(call(server.url, lambda queries: queries.scan(query)), oracle.scan(stored.values(), query), writers)


@on_a_server
@given(few_or_many_rows, st.sampled_from((0.0, NOW, NOW + 200)))
def test_statistics_equal_the_oracle(server: Server, rows: list[PatternRow], now: float) -> None:
    stored = rows_by_id(rows)
    write_rows(server.client, stored)
    statistics = call(server.url, lambda queries: queries.statistics(now))
    assert statistics_of(statistics) == oracle.statistics(stored.values(), now)


def test_a_pattern_is_read_by_its_id_until_it_elapses(redis_url: str, redis: Redis) -> None:
    rows = rows_by_id(
        pattern_row(symbol, PATTERN_TYPES[0], TIERS[0], 900.0, 0.5, expires_at=expires_at)
        for symbol, expires_at in zip(SYMBOLS, (None, NOW, NOW + 1, None, None, None, None, None), strict=True)
    )
    writers = write_rows(redis, rows)

    async def get_all(queries: RedisPatternQueries) -> list[Any]:
        return [await queries.get(key, NOW) for key in (*rows, "X:Doji:daily:1", "X:Doji", "")]

    results = call(redis_url, get_all)
    for (key, row), result in zip(rows.items(), results, strict=False):
        if row.expires_at == NOW:
            assert result is None
        else:
            log = log_of_pattern(key)
            assert (result.row, result.log, result.position) == (row, log, writers[log].rows[key].position)
    assert results[-3:] == [None, None, None]


def test_queries_load_their_functions_into_a_server_without_functions(redis_url: str, redis: Redis) -> None:
    rows = many_rows(20)
    write_rows(redis, rows)
    redis.function_flush()
    assert call(redis_url, lambda queries: queries.statistics(0)).total == 20
    redis.function_flush()
    assert call(redis_url, lambda queries: queries.scan(PatternQuery(0))).total == 20
