"""Helpers for tests of the queries of ``patterns``: a filled server, queries of every kind, and checks of pages."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from redis import Redis

from infra.read_models.pattern_queries import RedisPatternQueries
from infra.redis.connections import connect_async
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import MAX_OFFSET, Page, PatternQuery
from tests.oracles import queries as oracle
from tests.pattern_queries import (
    LOGS,
    NOW,
    PATTERN_TYPES,
    log_of_pattern,
)
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter

T = TypeVar("T")


def write_rows(client: Redis, *generations: Mapping[str, PatternRow | None]) -> dict[str, SegmentWriter]:
    """Delete all data of the server and write rows, one generation of rows after the other."""
    client.flushall()
    writers = {log: SegmentWriter(client, ActivePatterns(), log) for log in LOGS}
    for rows in generations:
        for log, writer in writers.items():
            keys = [key for key in rows if log_of_pattern(key) == log]
            for start in range(0, len(keys), 2_000):
                writer.put({key: rows[key] for key in keys[start : start + 2_000]})
    return writers


def call(url: str, function: Callable[[RedisPatternQueries], Awaitable[T]]) -> T:
    """Return the result of an asynchronous function that queries the patterns."""

    async def run() -> T:
        async with connect_async(url) as client:
            return await function(RedisPatternQueries(client, FIRST_BUILD, LOGS))

    return asyncio.run(run())


def assert_page(page: Page[PatternRow], expected: oracle.QueryResult, writers: dict[str, SegmentWriter]) -> None:
    """Assert that rows, total and end of a page equal the oracle's, and that each row is the row last written."""
    assert [result.row.id for result in page.rows] == expected.ids
    assert page.total == expected.total
    assert page.end == expected.end
    for result in page.rows:
        assert (result.row, result.position) == writers[result.log].rows[result.row.id]


def statistics_of(statistics: Any) -> dict[str, Any]:
    """Return statistics as the oracle returns them: counts as lists, because their order matters."""
    return {
        name: list(value.items()) if isinstance(value, dict) else value for name, value in asdict(statistics).items()
    }


PATTERN_QUERIES = {
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
    "no match": PatternQuery(NOW, symbols=frozenset(("absent",))),
    "highest offset": PatternQuery(NOW, sort_by="volume", offset=MAX_OFFSET),
    "highest offset of three types": PatternQuery(
        NOW, pattern_types=frozenset(PATTERN_TYPES), offset=MAX_OFFSET, descending=False
    ),
}
