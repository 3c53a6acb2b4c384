"""The costs of queries of ``patterns`` on the indexes in Redis: round trips and bytes, however many rows there are."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import pytest
from redis import Redis
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio import Redis as AsyncRedis

from infra.read_models.row_queries import RedisRowQueries
from infra.redis.connections import connect
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import MAX_GROUPS, MAX_OFFSET, Page, Query, TooDeepError
from tests import servers
from tests.integration.pattern_query_support import (
    COUNTS,
    PATTERN_QUERIES,
    assert_counts,
    assert_page,
    call,
    log_of_key,
    write_rows,
)
from tests.oracles import rows as oracle
from tests.pattern_queries import (
    LOGS,
    NOW,
    PATTERN_TYPES,
    TIERS,
    many_rows,
    one_of,
    pattern_row,
    rows_by_id,
)
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter

T = TypeVar("T")


class FilledServer(NamedTuple):
    """A server with more rows than one chunk of a script holds and than the highest offset."""

    url: str
    rows: dict[str, PatternRow]
    writers: dict[str, SegmentWriter]


@pytest.fixture(scope="module")
def filled_server() -> Iterator[FilledServer]:
    """Server of the module. No test changes its rows."""
    with servers.valkey() as server, connect(server.connection_url) as client:
        rows = many_rows(MAX_OFFSET + 500)
        yield FilledServer(server.connection_url, rows, write_rows(client, ActivePatterns, rows))


class CountingConnection(Connection):
    """A connection that records each packet of commands, and runs an interruption before a packet that reads rows."""

    sent: list[bytes] = []
    interruptions: list[Callable[[], None]] = []

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        words = b"".join([command] if isinstance(command, bytes) else command)
        if b"HMGET" in words and self.interruptions:
            self.interruptions.pop(0)()
        self.sent.append(words)
        await super().send_packed_command(command, check_health)


def call_and_count(url: str, function: Callable[[RedisRowQueries[PatternRow]], Awaitable[T]]) -> tuple[T, int]:
    """Return the result of the function and the number of its round trips."""

    async def run() -> tuple[T, int]:
        pool = ConnectionPool.from_url(url, connection_class=CountingConnection)
        async with AsyncRedis.from_pool(pool) as client:
            queries = RedisRowQueries(client, ActivePatterns(), FIRST_BUILD, LOGS)
            await queries.page(Query(NOW))
            await queries.counts(COUNTS, NOW)
            CountingConnection.sent.clear()
            result = await function(queries)
            return result, len(CountingConnection.sent)

    return asyncio.run(run())


@pytest.mark.parametrize("query", PATTERN_QUERIES.values(), ids=PATTERN_QUERIES)
def test_a_scan_takes_two_round_trips_at_most(filled_server: FilledServer, query: Query) -> None:
    page, round_trips = call_and_count(filled_server.url, lambda queries: queries.page(query))

    assert_page(page, oracle.page(ActivePatterns, filled_server.rows, query), filled_server.writers)
    assert round_trips == (2 if page.rows else 1)


def test_a_scan_of_no_symbol_sends_no_command(filled_server: FilledServer) -> None:
    query = Query(NOW, (one_of("symbol"),), offset=MAX_OFFSET + 1)
    assert call_and_count(filled_server.url, lambda queries: queries.page(query)) == (Page([], 0, None), 0)


def test_a_page_beyond_the_highest_offset_is_refused_unless_it_is_empty(filled_server: FilledServer) -> None:
    query = Query(NOW, offset=MAX_OFFSET + 1)
    total = oracle.page(ActivePatterns, filled_server.rows, query).total

    with pytest.raises(TooDeepError, match=f"of {total}"):
        call_and_count(filled_server.url, lambda queries: queries.page(query))
    page, round_trips = call_and_count(filled_server.url, lambda queries: queries.page(query._replace(offset=total)))
    assert (page, round_trips) == (Page([], total, None), 1)


def total_and_bytes(filled_server: FilledServer, query: Query) -> tuple[int, int]:
    """Return the total of a scan and the number of bytes that the server sent for the scan."""
    with connect(filled_server.url) as client:
        before = client.info("stats")["total_net_output_bytes"]
        page = call(filled_server.url, ActivePatterns, lambda queries: queries.page(query))
        return page.total, client.info("stats")["total_net_output_bytes"] - before


OVERHEAD_BYTES = 15_000
"""Upper bound of the bytes that the server sends for a new connection and two INFO commands."""


def test_replies_do_not_grow_with_the_total(filled_server: FilledServer) -> None:
    total, sent = total_and_bytes(filled_server, Query(NOW, sort_by="relative_strength"))
    assert total > 10_000
    # At most 60 bytes for each of 31 index entries of 3 partitions, and at most 600 bytes for each of 30 rows.
    assert 30 * 300 < sent < 3 * 31 * 60 + 30 * 600 + OVERHEAD_BYTES


def test_replies_do_not_grow_with_the_filters(filled_server: FilledServer) -> None:
    symbols = frozenset(row.symbol for row in filled_server.rows.values())
    assert len(symbols) == 523
    total, sent = total_and_bytes(filled_server, Query(NOW, (one_of("symbol", *symbols),), "confidence", limit=1))
    assert total > 10_000
    assert sent < OVERHEAD_BYTES


def create_six_rows() -> dict[str, PatternRow]:
    return rows_by_id(pattern_row("AAPL", PATTERN_TYPES[0], TIERS[0], 900 + number, number / 10) for number in range(6))


def scan_while_removing(
    url: str, writers: dict[str, SegmentWriter], keys: Iterable[str]
) -> tuple[Page[PatternRow], int]:
    """Scan, and remove one of the keys before each read of rows. Return the page and the number of round trips."""

    def removal(key: str) -> Callable[[], None]:
        return lambda: writers[log_of_key(key)].put({key: None})

    async def scan(queries: RedisRowQueries[PatternRow]) -> Page[PatternRow]:
        CountingConnection.interruptions[:] = [removal(key) for key in keys]
        return await queries.page(Query(NOW, sort_by="confidence", descending=True))

    return call_and_count(url, scan)


def test_a_scan_is_repeated_after_one_of_its_rows_was_removed(redis_url: str, redis: Redis) -> None:
    rows = create_six_rows()
    page, round_trips = scan_while_removing(redis_url, write_rows(redis, ActivePatterns, rows), list(rows)[:-3:-1])

    assert [result.key for result in page.rows] == list(rows)[3::-1]
    assert page.total == 4
    assert round_trips == 6


def test_a_scan_returns_the_remaining_rows_if_rows_are_removed_in_each_attempt(redis_url: str, redis: Redis) -> None:
    rows = create_six_rows()
    page, round_trips = scan_while_removing(redis_url, write_rows(redis, ActivePatterns, rows), list(rows)[:-4:-1])

    assert [result.key for result in page.rows] == list(rows)[2::-1]
    assert round_trips == 6


def test_counts_of_many_rows_take_one_round_trip(filled_server: FilledServer) -> None:
    counts, round_trips = call_and_count(filled_server.url, lambda queries: queries.counts(COUNTS, NOW))
    assert round_trips == 1
    assert_counts(counts, ActivePatterns, filled_server.rows, NOW)
    assert counts["by_symbol"].distinct == 523


def test_counts_exclude_thousands_of_ended_rows(redis_url: str, redis: Redis) -> None:
    rows = {
        row.id: replace(row, expires_at=NOW if number % 11 else None)
        for number, row in enumerate(many_rows(6_000).values())
    }
    write_rows(redis, ActivePatterns, rows)
    counts, round_trips = call_and_count(redis_url, lambda queries: queries.counts(COUNTS, NOW))
    assert_counts(counts, ActivePatterns, rows, NOW)
    assert round_trips == 2


def test_counts_of_thousands_of_groups_are_exact(redis_url: str, redis: Redis) -> None:
    rows = rows_by_id(
        pattern_row(f"S{number * 7 % 4_500}", PATTERN_TYPES[0], TIERS[0], 900 + number, 0.5) for number in range(6_000)
    )
    write_rows(redis, ActivePatterns, rows)
    counts, round_trips = call_and_count(redis_url, lambda queries: queries.counts(COUNTS, NOW))
    assert_counts(counts, ActivePatterns, rows, NOW)
    assert (counts["by_symbol"].distinct, len(counts["by_symbol"].groups)) == (4_500, MAX_GROUPS)
    assert round_trips == 2
