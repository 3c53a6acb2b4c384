"""The queries to ``backtests``, ``activity`` and ``producers`` on the Redis indexes: the same answers as the oracle."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, get_args

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


def fill(client: Redis, projection: Any, rows: Iterable[tuple[str, str, Any]]) -> dict[str, SegmentWriter]:
    """The server emptied and given these rows, each (log, key, row)."""
    client.flushall()
    writers = {log: SegmentWriter(client, projection, log) for log in LOGS}
    for log, writer in writers.items():
        writer.put({key: row for at, key, row in rows if at == log})
    return writers


def fill_runs(client: Redis, rows: Iterable[BacktestRow]) -> dict[str, SegmentWriter]:
    located = [(log_of(backtest_stream(row.job_id), len(LOGS)), row.job_id, row) for row in rows]
    return fill(client, Backtests(), located)


def ask(url: str, question: Callable[[AsyncRedis], Awaitable[T]]) -> T:
    async def run() -> T:
        async with connect_async(url) as client:
            return await question(client)

    return asyncio.run(run())


@on_a_server
@given(
    st.lists(runs, max_size=12),
    st.frozensets(st.sampled_from((*STATUSES, "absent")), max_size=2),
    st.sampled_from(get_args(BacktestSort)),
    st.booleans(),
    st.sampled_from((0, 1, 5)),
    st.sampled_from((1, 3, 20)),
)
def test_runs_equal_the_oracle(
    redis_url: str,
    redis: Redis,
    rows: list[BacktestRow],
    statuses: frozenset[str],
    sort_by: BacktestSort,
    descending: bool,
    offset: int,
    limit: int,
) -> None:
    held = {row.job_id: row for row in rows}
    writers = fill_runs(redis, held.values())
    page = ask(
        redis_url,
        lambda client: RedisBacktestQueries(client, FIRST_BUILD, LOGS).runs(
            statuses, sort_by, descending=descending, offset=offset, limit=limit
        ),
    )
    expected = oracle.backtests(held.values(), statuses, sort_by, descending, offset, limit)
    assert [found.row.job_id for found in page.rows] == expected.ids
    assert (page.total, page.end) == (expected.total, expected.end)
    for found in page.rows:
        assert (found.row, found.position) == writers[found.log].rows[found.row.job_id]


def test_runs_too_deep_are_refused_unless_there_are_none(redis_url: str, redis: Redis) -> None:
    rows = [BacktestRow(f"job-{number}", "completed", 1.0, float(number), 1.0) for number in range(MAX_OFFSET + 2)]
    fill_runs(redis, rows)

    async def pages(client: AsyncRedis) -> None:
        asked = RedisBacktestQueries(client, FIRST_BUILD, LOGS)
        last = await asked.runs(frozenset(), "started_at", descending=False, offset=MAX_OFFSET, limit=9)
        assert [found.row.job_id for found in last.rows] == [f"job-{MAX_OFFSET}", f"job-{MAX_OFFSET + 1}"]
        past = await asked.runs(frozenset(), "started_at", descending=False, offset=MAX_OFFSET + 2, limit=9)
        assert (past.rows, past.total, past.end) == ([], MAX_OFFSET + 2, None)
        with pytest.raises(TooDeepError):
            await asked.runs(frozenset(), "started_at", descending=False, offset=MAX_OFFSET + 1, limit=9)

    ask(redis_url, pages)


def test_one_run(redis_url: str, redis: Redis) -> None:
    row = BacktestRow("job:1", "completed", 1.0, 1.0, 2.0, results={"roi": 0.1})
    fill_runs(redis, [row])

    async def get(client: AsyncRedis) -> list[Any]:
        asked = RedisBacktestQueries(client, FIRST_BUILD, LOGS)
        return [await asked.get("job:1"), await asked.get("job:2"), await asked.get("")]

    found, *absent = ask(redis_url, get)
    assert (found.row, found.log, found.position) == (row, log_of(backtest_stream("job:1"), len(LOGS)), 1)
    assert absent == [None, None]


def activity_row(log: str, day: int, event_type: str, source: str, events: int, second: float) -> Any:
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
        unique_by=lambda located: located[:2],
    ),
    st.integers(19_999, 20_005),
)
def test_activity_equals_the_oracle(redis_url: str, redis: Redis, rows: list[Any], first: int) -> None:
    fill(redis, Activity(), rows)
    assert_activity(redis_url, rows, day_of(first * SECONDS_A_DAY))


def test_activity_of_more_rows_than_are_read_at_once(redis_url: str, redis: Redis) -> None:
    rows = [
        activity_row(log, 20_000 + number % 3, "PatternDetected", f"source-{number}", number + 1, number)
        for log in LOGS[:2]
        for number in range(3_500)
    ]
    fill(redis, Activity(), rows)
    assert_activity(redis_url, rows, day_of(20_001 * SECONDS_A_DAY))


def assert_activity(url: str, rows: list[Any], day: str) -> None:
    sums = ask(url, lambda client: RedisActivityQueries(client, FIRST_BUILD, LOGS).since(day))
    assert [
        (row.day, row.event_type, row.source, row.events, row.first_at, row.latest_at) for row in sums
    ] == oracle.activity([row for _, _, row in rows], day)


def test_the_producers_that_reported_last(redis_url: str, redis: Redis) -> None:
    rows = [ProducerRow(f"source-{number}", "healthy", float(number * 7 % 20 // 2)) for number in range(20)]
    fill(redis, Producers(), [(log_of(source_stream(row.source), len(LOGS)), row.source, row) for row in rows])
    latest = ask(redis_url, lambda client: RedisProducerQueries(client, FIRST_BUILD, LOGS).latest(6))

    expected = sorted(rows, key=lambda row: (row.reported_at, row.source), reverse=True)[:6]
    assert [found.row for found in latest] == expected
