"""The queries to ``patterns`` on the Redis indexes: the same answers as the oracle, in two round trips."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio import Redis as AsyncRedis

from infra.read_models.pattern_queries import RedisPatternQueries
from infra.redis.connections import connect, connect_async
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import MAX_OFFSET, Cursor, Page, PatternQuery, TooDeepError
from tests import servers
from tests.oracles import queries as oracle
from tests.pattern_queries import (
    LOGS,
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
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter

T = TypeVar("T")


class Server(NamedTuple):
    """A server's address and a client of it."""

    url: str
    client: Redis


on_a_server = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(params=["valkey_url", "redis_7_0_url"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each of the servers we support."""
    url = request.getfixturevalue(request.param)
    with connect(url) as client:
        yield Server(url, client)


class Large(NamedTuple):
    """A server with more rows than chunks hold and than can be paged past by number."""

    url: str
    rows: dict[str, PatternRow]
    writers: dict[str, SegmentWriter]


@pytest.fixture(scope="module")
def large() -> Iterator[Large]:
    """One for the module, which no test changes."""
    with servers.valkey() as server, connect(server.connection_url) as client:
        rows = many_rows(MAX_OFFSET + 500)
        yield Large(server.connection_url, rows, fill(client, rows))


def fill(client: Redis, *generations: Mapping[str, PatternRow | None]) -> dict[str, SegmentWriter]:
    """The server emptied and given these rows, each generation written over the one before."""
    client.flushall()
    writers = {log: SegmentWriter(client, ActivePatterns(), log) for log in LOGS}
    for rows in generations:
        for log, writer in writers.items():
            own = [key for key in rows if log_of_pattern(key) == log]
            for start in range(0, len(own), 2_000):
                writer.put({key: rows[key] for key in own[start : start + 2_000]})
    return writers


def ask(url: str, question: Callable[[RedisPatternQueries], Awaitable[T]]) -> T:
    async def run() -> T:
        async with connect_async(url) as client:
            return await question(RedisPatternQueries(client, FIRST_BUILD, LOGS))

    return asyncio.run(run())


def assert_page(page: Page[PatternRow], expected: oracle.QueryResult, writers: dict[str, SegmentWriter]) -> None:
    assert [found.row.id for found in page.rows] == expected.ids
    assert page.total == expected.total
    assert page.end == expected.end
    for found in page.rows:
        assert (found.row, found.position) == writers[found.log].rows[found.row.id]


@on_a_server
@given(
    few_or_many_rows,
    st.lists(st.tuples(pattern_rows, st.booleans()), max_size=15),
    st.lists(pattern_queries(), min_size=4, max_size=12),
)
def test_a_scan_equals_the_oracle(
    server: Server, rows: list[PatternRow], changes: list[tuple[PatternRow, bool]], queries: list[PatternQuery]
) -> None:
    first = rows_by_id(rows)
    second = {row.id: None if removed else row for row, removed in changes}
    writers = fill(server.client, first, second)
    left = [row for row in (first | second).values() if row is not None]

    async def all_pages(asked: RedisPatternQueries) -> list[Page[PatternRow]]:
        return [await asked.scan(query) for query in queries]

    for query, page in zip(queries, ask(server.url, all_pages), strict=True):
        assert_page(page, oracle.scan(left, query), writers)


@on_a_server
@given(few_or_many_rows, pattern_queries())
def test_pages_by_cursor_make_up_the_whole_answer(server: Server, rows: list[PatternRow], query: PatternQuery) -> None:
    held = rows_by_id(rows)
    fill(server.client, held)
    query = query._replace(offset=0)
    whole = oracle.scan(held.values(), query._replace(limit=1_000))

    async def walk(asked: RedisPatternQueries) -> list[Page[PatternRow]]:
        pages = [await asked.scan(query)]
        while pages[-1].end is not None and len(pages) <= whole.total:
            pages.append(await asked.scan(query._replace(after=pages[-1].end)))
        return pages

    pages = ask(server.url, walk)
    assert [found.row.id for page in pages for found in page.rows] == whole.ids
    assert {page.total for page in pages} == {whole.total}
    assert len(pages) == max(1, -(-whole.total // query.limit))


@on_a_server
@given(few_or_many_rows, pattern_queries(), pattern_rows)
def test_a_cursor_goes_on_where_its_row_would_be(
    server: Server, rows: list[PatternRow], query: PatternQuery, absent: PatternRow
) -> None:
    held = rows_by_id(rows)
    writers = fill(server.client, held)
    query = query._replace(offset=0, after=Cursor(oracle.sort_value(absent, query.sort_by), absent.id))

    assert_page(ask(server.url, lambda asked: asked.scan(query)), oracle.scan(held.values(), query), writers)


QUERIES_OF_EVERY_KIND = {
    "all by confidence": PatternQuery(NOW, confidence_min=0.5),
    "all by another value": PatternQuery(NOW, confidence_min=0.5, sort_by="rs", descending=False),
    "few by another value": PatternQuery(NOW, confidence_min=1.0, sort_by="detected_at", limit=5),
    "by symbol": PatternQuery(NOW, confidence_min=0.5, sort_by="symbol", descending=False),
    "two types": PatternQuery(NOW, pattern_types=frozenset(PATTERN_TYPES[:2]), confidence_min=0.7),
    "two types and a bound": PatternQuery(
        NOW, pattern_types=frozenset(PATTERN_TYPES[:2]), confidence_min=0.7, rs_min=1.2
    ),
    "three symbols": PatternQuery(NOW, symbols=frozenset(("S1", "S2", "S3")), confidence_min=0.5),
    "a universe": PatternQuery(NOW, symbols=frozenset(f"S{number}" for number in range(0, 3_000, 2))),
    "a universe and a type": PatternQuery(
        NOW,
        symbols=frozenset(f"S{number}" for number in range(400)),
        pattern_types=frozenset(PATTERN_TYPES[:1]),
        sort_by="symbol",
    ),
    "bounds only, a later page": PatternQuery(NOW, rsi_range=(30, 70), vol_min=1.5, sort_by="rs", offset=60),
    "a thousand symbols": PatternQuery(NOW, symbols=frozenset(f"S{number}" for number in range(1_000)), sort_by="rs"),
    "nothing": PatternQuery(NOW, symbols=frozenset(("absent",))),
    "deep": PatternQuery(NOW, sort_by="volume", offset=MAX_OFFSET),
    "deep in types": PatternQuery(NOW, pattern_types=frozenset(PATTERN_TYPES), offset=MAX_OFFSET, descending=False),
}


class CountingConnection(Connection):
    """A connection that counts what it sends at once, and may be interrupted before a reading of rows."""

    sent: list[bytes] = []
    interruptions: list[Callable[[], None]] = []

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        words = b"".join([command] if isinstance(command, bytes) else command)
        if b"HMGET" in words and self.interruptions:
            self.interruptions.pop(0)()
        self.sent.append(words)
        await super().send_packed_command(command, check_health)


def counted(url: str, question: Callable[[RedisPatternQueries], Awaitable[T]]) -> tuple[T, int]:
    """The answer, and how often something was sent to the server for it."""

    async def run() -> tuple[T, int]:
        pool = ConnectionPool.from_url(url, connection_class=CountingConnection)
        async with AsyncRedis.from_pool(pool) as client:
            asked = RedisPatternQueries(client, FIRST_BUILD, LOGS)
            await asked.scan(PatternQuery(NOW))
            await asked.statistics(NOW)
            CountingConnection.sent.clear()
            answer = await question(asked)
            return answer, len(CountingConnection.sent)

    return asyncio.run(run())


@pytest.mark.parametrize("query", QUERIES_OF_EVERY_KIND.values(), ids=QUERIES_OF_EVERY_KIND)
def test_a_scan_takes_two_round_trips_at_most(large: Large, query: PatternQuery) -> None:
    page, round_trips = counted(large.url, lambda asked: asked.scan(query))

    assert_page(page, oracle.scan(large.rows.values(), query), large.writers)
    assert round_trips == (2 if page.rows else 1)


def test_a_scan_of_no_symbol_asks_nobody(large: Large) -> None:
    query = PatternQuery(NOW, symbols=frozenset(), offset=MAX_OFFSET + 1)
    assert counted(large.url, lambda asked: asked.scan(query)) == (Page([], 0, None), 0)


def test_what_lies_too_deep_is_refused_unless_nothing_is_there(large: Large) -> None:
    query = PatternQuery(NOW, offset=MAX_OFFSET + 1)
    total = oracle.scan(large.rows.values(), query).total

    with pytest.raises(TooDeepError, match=f"of {total}"):
        counted(large.url, lambda asked: asked.scan(query))
    page, round_trips = counted(large.url, lambda asked: asked.scan(query._replace(offset=total)))
    assert (page, round_trips) == (Page([], total, None), 1)


def bytes_sent(large: Large, query: PatternQuery) -> tuple[int, int]:
    """The total of a scan, and how many bytes the server sent for it."""
    with connect(large.url) as client:
        before = client.info("stats")["total_net_output_bytes"]
        page = ask(large.url, lambda asked: asked.scan(query))
        return page.total, client.info("stats")["total_net_output_bytes"] - before


HEAD_BYTES = 15_000
"""What a new connection and two INFO are answered with, generously."""


def test_replies_do_not_grow_with_the_answer(large: Large) -> None:
    total, sent = bytes_sent(large, PatternQuery(NOW, sort_by="rs"))
    assert total > 10_000
    # A page of 30 and one row more from each of 3 partitions, under 60 bytes each, and 30 documents under 600 bytes.
    assert 30 * 300 < sent < 3 * 31 * 60 + 30 * 600 + HEAD_BYTES


def test_replies_do_not_grow_with_the_filters(large: Large) -> None:
    symbols = frozenset(row.symbol for row in large.rows.values())
    assert len(symbols) == 523
    total, sent = bytes_sent(large, PatternQuery(NOW, symbols=symbols, limit=1))
    assert total > 10_000
    assert sent < HEAD_BYTES


def six_rows() -> dict[str, PatternRow]:
    return rows_by_id(pattern_row("AAPL", PATTERN_TYPES[0], TIERS[0], 900 + number, number / 10) for number in range(6))


def scan_while_removing(
    url: str, writers: dict[str, SegmentWriter], keys: Iterable[str]
) -> tuple[Page[PatternRow], int]:
    """A scan with one of the rows removed before each reading of its rows, and its round trips."""

    def removal(key: str) -> Callable[[], None]:
        return lambda: writers[log_of_pattern(key)].put({key: None})

    async def scan(asked: RedisPatternQueries) -> Page[PatternRow]:
        CountingConnection.interruptions[:] = [removal(key) for key in keys]
        return await asked.scan(PatternQuery(NOW))

    return counted(url, scan)


def test_a_scan_whose_row_vanishes_is_asked_again(redis_url: str, redis: Redis) -> None:
    rows = six_rows()
    page, round_trips = scan_while_removing(redis_url, fill(redis, rows), list(rows)[:-3:-1])

    assert [found.row.id for found in page.rows] == list(rows)[3::-1]
    assert page.total == 4
    assert round_trips == 6


def test_a_scan_whose_rows_go_on_vanishing_answers_what_is_there(redis_url: str, redis: Redis) -> None:
    rows = six_rows()
    page, round_trips = scan_while_removing(redis_url, fill(redis, rows), list(rows)[:-4:-1])

    assert [found.row.id for found in page.rows] == list(rows)[2::-1]
    assert round_trips == 6


@on_a_server
@given(few_or_many_rows, st.sampled_from((0.0, NOW, NOW + 200)))
def test_statistics_equal_the_oracle(server: Server, rows: list[PatternRow], now: float) -> None:
    held = rows_by_id(rows)
    fill(server.client, held)
    assert statistics_of(ask(server.url, lambda asked: asked.statistics(now))) == oracle.statistics(held.values(), now)


def statistics_of(statistics: Any) -> dict[str, Any]:
    return {
        name: list(value.items()) if isinstance(value, dict) else value for name, value in asdict(statistics).items()
    }


def test_statistics_of_many_rows_take_one_round_trip(large: Large) -> None:
    statistics, round_trips = counted(large.url, lambda asked: asked.statistics(NOW))
    assert round_trips == 1
    assert statistics_of(statistics) == oracle.statistics(large.rows.values(), NOW)
    assert (statistics.symbols, len(statistics.by_symbol)) == (523, 100)


def test_statistics_leave_out_however_many_have_elapsed(redis_url: str, redis: Redis) -> None:
    rows = {
        row.id: replace(row, expires_at=NOW if number % 11 else None)
        for number, row in enumerate(many_rows(6_000).values())
    }
    fill(redis, rows)
    statistics, round_trips = counted(redis_url, lambda asked: asked.statistics(NOW))
    assert statistics_of(statistics) == oracle.statistics(rows.values(), NOW)
    assert round_trips == 2


def test_one_pattern(redis_url: str, redis: Redis) -> None:
    rows = rows_by_id(
        pattern_row(symbol, PATTERN_TYPES[0], TIERS[0], 900.0, 0.5, expires_at=expires_at)
        for symbol, expires_at in zip(SYMBOLS, (None, NOW, NOW + 1, None, None, None, None, None), strict=True)
    )
    writers = fill(redis, rows)

    async def get_all(asked: RedisPatternQueries) -> list[Any]:
        return [await asked.get(key, NOW) for key in (*rows, "X:Doji:daily:1", "X:Doji", "")]

    found = ask(redis_url, get_all)
    for (key, row), one in zip(rows.items(), found, strict=False):
        if row.expires_at == NOW:
            assert one is None
        else:
            log = log_of_pattern(key)
            assert (one.row, one.log, one.position) == (row, log, writers[log].rows[key].position)
    assert found[-3:] == [None, None, None]


def test_queries_load_their_functions_into_a_server_that_has_lost_them(redis_url: str, redis: Redis) -> None:
    rows = many_rows(20)
    fill(redis, rows)
    redis.function_flush()
    assert ask(redis_url, lambda asked: asked.statistics(0)).total == 20
    redis.function_flush()
    assert ask(redis_url, lambda asked: asked.scan(PatternQuery(0))).total == 20
