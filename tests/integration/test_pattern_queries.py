"""Queries of ``patterns`` on the indexes in Redis: the results equal the oracle's, with few and with many rows."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from infra.read_models.row_queries import RedisRowQueries
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import ALWAYS, Cursor, Page, Query
from tests.integration.pattern_query_support import (
    COUNTS,
    assert_counts,
    assert_page,
    call,
    write_rows,
)
from tests.oracles import rows as oracle
from tests.oracles.scan_bounds import passes
from tests.pattern_queries import (
    NOW,
    bounded_query,
    few_or_many_rows,
    many_rows,
    pattern_queries,
    pattern_rows,
    rows_by_id,
    scan_bounds,
)

on_a_server = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@on_a_server
@given(
    few_or_many_rows,
    st.lists(st.tuples(pattern_rows, st.booleans()), max_size=15),
    st.lists(pattern_queries(), min_size=4, max_size=12),
)
def test_a_scan_equals_the_oracle(
    every_redis_url: str,
    every_redis: Redis,
    rows: list[PatternRow],
    changes: list[tuple[PatternRow, bool]],
    queries: list[Query],
) -> None:
    initial = rows_by_id(rows)
    later = {row.id: None if removed else row for row, removed in changes}
    writers = write_rows(every_redis, ActivePatterns, initial, later)
    remaining = {key: row for key, row in (initial | later).items() if row is not None}

    async def read_pages(row_queries: RedisRowQueries[PatternRow]) -> list[Page[PatternRow]]:
        return [await row_queries.page(query) for query in queries]

    for query, page in zip(queries, call(every_redis_url, ActivePatterns, read_pages), strict=True):
        assert_page(page, oracle.page(ActivePatterns, remaining, query), writers)


@on_a_server
@given(few_or_many_rows, pattern_queries())
def test_pages_by_cursor_make_up_the_complete_result(
    every_redis_url: str, every_redis: Redis, rows: list[PatternRow], query: Query
) -> None:
    stored = rows_by_id(rows)
    write_rows(every_redis, ActivePatterns, stored)
    query = query._replace(offset=0)
    expected = oracle.page(ActivePatterns, stored, query._replace(limit=1_000))

    async def read_all_pages(queries: RedisRowQueries[PatternRow]) -> list[Page[PatternRow]]:
        pages = [await queries.page(query)]
        while pages[-1].end is not None and len(pages) <= expected.total:
            pages.append(await queries.page(query._replace(after=pages[-1].end)))
        return pages

    pages = call(every_redis_url, ActivePatterns, read_all_pages)
    assert [result.key for page in pages for result in page.rows] == expected.keys
    assert {page.total for page in pages} == {expected.total}
    assert len(pages) == max(1, -(-expected.total // query.limit))


@on_a_server
@given(few_or_many_rows, pattern_queries(), pattern_rows)
def test_a_cursor_continues_at_the_place_of_its_row_even_if_the_row_is_absent(
    every_redis_url: str, every_redis: Redis, rows: list[PatternRow], query: Query, absent: PatternRow
) -> None:
    stored = rows_by_id(rows)
    writers = write_rows(every_redis, ActivePatterns, stored)
    after = Cursor(oracle.sort_value(ActivePatterns, absent, query.sort_by), absent.id)
    query = query._replace(offset=0, after=after)

    page = call(every_redis_url, ActivePatterns, lambda queries: queries.page(query))
    assert_page(page, oracle.page(ActivePatterns, stored, query), writers)


@on_a_server
@given(st.lists(pattern_rows, max_size=40), st.lists(scan_bounds, min_size=4, max_size=12))
def test_a_bound_at_the_end_of_its_scale_excludes_no_row(
    every_redis_url: str, every_redis: Redis, rows: list[PatternRow], bounds: list[dict[str, str]]
) -> None:
    stored = rows_by_id(rows)
    write_rows(every_redis, ActivePatterns, stored)

    async def read_pages(row_queries: RedisRowQueries[PatternRow]) -> list[Page[PatternRow]]:
        return [await row_queries.page(bounded_query(each, ALWAYS)) for each in bounds]

    for each, page in zip(bounds, call(every_redis_url, ActivePatterns, read_pages), strict=True):
        assert {result.key for result in page.rows} == {row.id for row in stored.values() if passes(row, each)}


@on_a_server
@given(few_or_many_rows, st.sampled_from((0.0, NOW, NOW + 200)))
def test_counts_equal_the_oracle(every_redis_url: str, every_redis: Redis, rows: list[PatternRow], now: float) -> None:
    stored = rows_by_id(rows)
    write_rows(every_redis, ActivePatterns, stored)
    counts = call(every_redis_url, ActivePatterns, lambda queries: queries.counts(COUNTS, now))
    assert_counts(counts, ActivePatterns, stored, now)


def test_queries_load_their_functions_into_a_server_without_functions(redis_url: str, redis: Redis) -> None:
    write_rows(redis, ActivePatterns, many_rows(20))

    async def total(queries: RedisRowQueries[Any]) -> tuple[int, int]:
        redis.function_flush()
        counts = await queries.counts(["all"], 0)
        redis.function_flush()
        return counts["all"].total, (await queries.page(Query(0))).total

    assert call(redis_url, ActivePatterns, total) == (20, 20)
