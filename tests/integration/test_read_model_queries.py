"""Queries of ``backtests``, ``activity`` and ``producers`` on the indexes in Redis: the results equal the oracle's."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, TypeVar, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from domain.streams import backtest_stream, log_of, market_logs, source_stream
from infra.read_models.queries import RedisActivityQueries, RedisBacktestQueries, RedisProducerQueries
from infra.redis.connections import connect_async
from projections.activity import SECONDS_A_DAY, Activity, ActivityRow, day_of
from projections.backtests import METRICS, BacktestRow, Backtests
from projections.producers import ProducerRow, Producers
from projections.queries import MAX_OFFSET, BacktestSort, TooDeepError
from tests.oracles import queries as oracle
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter

T = TypeVar("T")

LOGS = market_logs(4)
STATUSES = ("processing", "completed", "failed")

on_a_server = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

moments = st.sampled_from((1.0, 2.0, 2.0, 2.5, 1_757_000_000.123456))
figures = st.one_of(st.sampled_from((-1, 0, 0.5, 0.5, 0.1 + 0.2)), st.floats(-5, 5))
runs = st.builds(
    BacktestRow,
    st.sampled_from([f"job-{number}" for number in range(12)]),
    st.sampled_from(STATUSES),
    st.sampled_from((0.0, 0.25, 1.0)),
    moments,
    moments,
    results=st.dictionaries(st.sampled_from(METRICS), figures, max_size=3),
)


def write_rows(client: Redis, projection: Any, rows: Iterable[tuple[str, str, Any]]) -> dict[str, SegmentWriter]:
    """Delete all data of the server and write rows, each given as (log, key, row)."""
    client.flushall()
    writers = {log: SegmentWriter(client, projection, log) for log in LOGS}
    for log, writer in writers.items():
        writer.put({key: row for row_log, key, row in rows if row_log == log})
    return writers


def write_runs(client: Redis, rows: Iterable[BacktestRow]) -> dict[str, SegmentWriter]:
    located_rows = [(log_of(backtest_stream(row.job_id), len(LOGS)), row.job_id, row) for row in rows]
    return write_rows(client, Backtests(), located_rows)


class RunQuery(NamedTuple):
    """The parameters of a query of runs."""

    statuses: frozenset[str]
    sort_by: BacktestSort
    descending: bool
    offset: int
    limit: int


def call(url: str, function: Callable[[AsyncRedis], Awaitable[T]]) -> T:
    """Return the result of an asynchronous function that queries the server."""

    async def run() -> T:
        async with connect_async(url) as client:
            return await function(client)

    return asyncio.run(run())


@on_a_server
@given(
    st.lists(runs, max_size=12),
    st.builds(
        RunQuery,
        st.frozensets(st.sampled_from((*STATUSES, "absent")), max_size=2),
        st.sampled_from(get_args(BacktestSort)),
        st.booleans(),
        st.sampled_from((0, 1, 5)),
        st.sampled_from((1, 3, 20)),
    ),
)
def test_pages_of_runs_equal_the_oracle(redis_url: str, redis: Redis, rows: list[BacktestRow], query: RunQuery) -> None:
    rows_by_id = {row.job_id: row for row in rows}
    writers = write_runs(redis, rows_by_id.values())
    page = call(
        redis_url,
        lambda client: RedisBacktestQueries(client, FIRST_BUILD, LOGS).runs(
            query.statuses, query.sort_by, descending=query.descending, offset=query.offset, limit=query.limit
        ),
    )
    expected = oracle.backtests(rows_by_id.values(), *query)
    assert [result.row.job_id for result in page.rows] == expected.ids
    assert (page.total, page.end) == (expected.total, expected.end)
    for result in page.rows:
        assert (result.row, result.position) == writers[result.log].rows[result.row.job_id]


def test_a_page_of_runs_beyond_the_highest_offset_is_refused_unless_it_is_empty(redis_url: str, redis: Redis) -> None:
    rows = [BacktestRow(f"job-{number}", "completed", 1.0, float(number), 1.0) for number in range(MAX_OFFSET + 2)]
    write_runs(redis, rows)

    async def read_pages(client: AsyncRedis) -> None:
        queries = RedisBacktestQueries(client, FIRST_BUILD, LOGS)
        last = await queries.runs(frozenset(), "started_at", descending=False, offset=MAX_OFFSET, limit=9)
        assert [result.row.job_id for result in last.rows] == [f"job-{MAX_OFFSET}", f"job-{MAX_OFFSET + 1}"]
        behind_the_end = await queries.runs(frozenset(), "started_at", descending=False, offset=MAX_OFFSET + 2, limit=9)
        assert (behind_the_end.rows, behind_the_end.total, behind_the_end.end) == ([], MAX_OFFSET + 2, None)
        with pytest.raises(TooDeepError):
            await queries.runs(frozenset(), "started_at", descending=False, offset=MAX_OFFSET + 1, limit=9)

    call(redis_url, read_pages)


def test_a_run_is_read_by_its_job_id(redis_url: str, redis: Redis) -> None:
    row = BacktestRow("job:1", "completed", 1.0, 1.0, 2.0, results={"roi": 0.1})
    write_runs(redis, [row])

    async def get(client: AsyncRedis) -> list[Any]:
        queries = RedisBacktestQueries(client, FIRST_BUILD, LOGS)
        return [await queries.get("job:1"), await queries.get("job:2"), await queries.get("")]

    result, *absent = call(redis_url, get)
    assert (result.row, result.log, result.position) == (row, log_of(backtest_stream("job:1"), len(LOGS)), 1)
    assert absent == [None, None]


def activity_row(log: str, day: int, event_type: str, source: str, events: int, second: float) -> Any:
    """Return a row of ``activity`` as (log, key, row). Days count from the epoch, seconds from midnight."""
    first_at = day * SECONDS_A_DAY + second
    row = ActivityRow(day_of(first_at), event_type, source, events, first_at, first_at + 1)
    return log, f"{row.day}/{event_type}/{source}", row


@on_a_server
@given(
    st.lists(
        st.builds(
            activity_row,
            st.sampled_from(LOGS),
            st.integers(20_000, 20_004),
            st.sampled_from(("PatternDetected", "HealthReported")),
            st.sampled_from(("a", "b")),
            st.integers(1, 9),
            st.floats(0, SECONDS_A_DAY - 2),
        ),
        max_size=40,
        unique_by=lambda located_row: located_row[:2],
    ),
    st.integers(19_999, 20_005),
)
def test_activity_since_a_day_equals_the_oracle(redis_url: str, redis: Redis, rows: list[Any], first_day: int) -> None:
    write_rows(redis, Activity(), rows)
    assert_activity(redis_url, rows, day_of(first_day * SECONDS_A_DAY))


def test_activity_of_more_rows_than_one_batch_equals_the_oracle(redis_url: str, redis: Redis) -> None:
    rows = [
        activity_row(log, 20_000 + number % 3, "PatternDetected", f"source-{number}", number + 1, number)
        for log in LOGS[:2]
        for number in range(3_500)
    ]
    write_rows(redis, Activity(), rows)
    assert_activity(redis_url, rows, day_of(20_001 * SECONDS_A_DAY))


def assert_activity(url: str, rows: list[Any], day: str) -> None:
    totals = call(url, lambda client: RedisActivityQueries(client, FIRST_BUILD, LOGS).since(day))
    assert [
        (row.day, row.event_type, row.source, row.events, row.first_at, row.latest_at) for row in totals
    ] == oracle.activity([row for _, _, row in rows], day)


def test_the_latest_producers_come_first(redis_url: str, redis: Redis) -> None:
    rows = [ProducerRow(f"source-{number}", "healthy", float(number * 7 % 20 // 2)) for number in range(20)]
    write_rows(redis, Producers(), [(log_of(source_stream(row.source), len(LOGS)), row.source, row) for row in rows])
    latest = call(redis_url, lambda client: RedisProducerQueries(client, FIRST_BUILD, LOGS).latest(6))

    expected = sorted(rows, key=lambda row: (row.reported_at, row.source), reverse=True)[:6]
    assert [result.row for result in latest] == expected
