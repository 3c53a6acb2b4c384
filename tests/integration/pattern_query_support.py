"""Helpers for tests of queries on the indexes in Redis: filled servers, checks of pages, queries of ``patterns``."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from redis import Redis

from infra.read_models.row_queries import RedisRowQueries
from infra.redis.connections import connect_async
from projections.base import Projection
from projections.patterns import ActivePatterns
from projections.queries import MAX_OFFSET, Counts, Page, Query, Range
from tests.oracles import rows as oracle
from tests.pattern_queries import LOGS, NOW, PATTERN_TYPES, one_of
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter

T = TypeVar("T")


def log_of_key(key: str) -> str:
    """Return the log of a row. Queries do not know it."""
    return LOGS[sum(key.encode()) % len(LOGS)]


def write_rows(
    client: Redis, projection: type[Projection[Any, Any]], *generations: Mapping[str, Any]
) -> dict[str, SegmentWriter]:
    """Delete all data of the server and write rows, one generation of rows after the other."""
    client.flushall()
    writers = {log: SegmentWriter(client, projection(), log) for log in LOGS}
    for rows in generations:
        for log, writer in writers.items():
            keys = [key for key in rows if log_of_key(key) == log]
            for start in range(0, len(keys), 2_000):
                writer.put({key: rows[key] for key in keys[start : start + 2_000]})
    return writers


def call(
    url: str, projection: type[Projection[Any, Any]], function: Callable[[RedisRowQueries[Any]], Awaitable[T]]
) -> T:
    """Return the result of an asynchronous function that queries the read model."""

    async def run() -> T:
        async with connect_async(url) as client:
            return await function(RedisRowQueries(client, projection(), FIRST_BUILD, LOGS))

    return asyncio.run(run())


def assert_page(page: Page[Any], expected: oracle.QueryResult, writers: Mapping[str, SegmentWriter]) -> None:
    """Assert that rows, total and end of a page equal the oracle's, and that each row is the row last written."""
    assert [result.key for result in page.rows] == expected.keys
    assert page.total == expected.total
    assert page.end == expected.end
    for result in page.rows:
        assert (result.row, result.position) == writers[result.log].rows[result.key]


def assert_counts(
    counts: Mapping[str, Counts], projection: type[Projection[Any, Any]], rows: Mapping[str, Any], now: float
) -> None:
    """Assert that all counts of the projection, the order of their groups included, equal the oracle's."""
    assert {name: (list(count.groups.items()), *count[1:]) for name, count in counts.items()} == {
        count.name: oracle.counts(projection, rows, count.name, now) for count in projection.counts
    }


COUNTS = [count.name for count in ActivePatterns.counts]
"""The names of all counts of ``patterns``."""

CONFIDENT = Range("confidence", 0.5)

PATTERN_QUERIES = {
    "all by confidence": Query(NOW, (CONFIDENT,), "confidence", descending=True),
    "all by another value": Query(NOW, (CONFIDENT,), "relative_strength"),
    "few by another value": Query(NOW, (Range("confidence", 1.0),), "detected_at", descending=True, limit=5),
    "by symbol": Query(NOW, (CONFIDENT,), "symbol"),
    "by id": Query(NOW, (CONFIDENT,), descending=True),
    "two types": Query(
        NOW, (one_of("pattern", *PATTERN_TYPES[:2]), Range("confidence", 0.7)), "confidence", descending=True
    ),
    "two types and a bound": Query(
        NOW,
        (one_of("pattern", *PATTERN_TYPES[:2]), Range("confidence", 0.7), Range("relative_strength", 1.2)),
        "confidence",
        descending=True,
    ),
    "three symbols": Query(NOW, (one_of("symbol", "S1", "S2", "S3"), CONFIDENT), "confidence", descending=True),
    "a universe": Query(
        NOW, (one_of("symbol", *(f"S{number}" for number in range(0, 3_000, 2))),), "confidence", descending=True
    ),
    "a universe and a type": Query(
        NOW,
        (one_of("symbol", *(f"S{number}" for number in range(400))), one_of("pattern", PATTERN_TYPES[0])),
        "symbol",
        descending=True,
    ),
    "bounds only, a later page": Query(
        NOW, (Range("rsi", 30, 70), Range("relative_volume", 1.5)), "relative_strength", descending=True, offset=60
    ),
    "a thousand symbols": Query(
        NOW, (one_of("symbol", *(f"S{number}" for number in range(1_000))),), "relative_strength", descending=True
    ),
    "no match": Query(NOW, (one_of("symbol", "absent"),), "confidence", descending=True),
    "highest offset": Query(NOW, sort_by="relative_volume", descending=True, offset=MAX_OFFSET),
    "highest offset of three types": Query(NOW, (one_of("pattern", *PATTERN_TYPES),), "confidence", offset=MAX_OFFSET),
}
"""Queries of ``patterns``, which use every way to search a segment."""
