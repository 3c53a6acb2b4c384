"""How fast the scan as of a moment is, over a history of many states."""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from psycopg import connect
from rich.progress import track

from infra.archive.pattern_history.projector import COPY_STATES, history_row
from infra.archive.pattern_history.versions import switch_live_version
from infra.bench.load import PATTERN_TYPES, TIERS, symbol
from infra.bench.measurement import PROGRESS, quantile
from infra.bench.scans import CASES, Case
from infra.postgres.database import Database
from infra.serving.archive import ArchiveGateway
from infra.serving.pattern_history import PostgresPatternHistory
from projections.base import encode_row
from projections.pattern_history import ValidityInterval, microseconds
from projections.patterns import ActivePatterns, PatternRow, pattern_id
from projections.queries import PatternQuery

ACTIVE = 10_000
"""Patterns that are active at any moment, about."""

BEGIN = 1_757_001_600.0
"""When the first state begins; one follows each second."""

LOG = "market-0"


class Asked(NamedTuple):
    """One kind of scan, each as of another moment, one after the other on one connection."""

    name: str
    per_second: float
    p50_ms: float
    p99_ms: float


def measure(database: Database, intervals: int, symbols: int, seconds: float) -> list[Asked]:
    """Fill an empty archive with a history of so many states, and ask every kind of scan for ``seconds`` each."""
    fill(database, intervals, symbols)
    history = PostgresPatternHistory(ArchiveGateway(database), [LOG])
    return [
        asyncio.run(_ask(history, case, _moments(intervals, symbols, case), seconds))
        for case in track(CASES, description="scanning the past", transient=True, console=PROGRESS)
    ]


def fill(database: Database, intervals: int, symbols: int) -> None:
    """Write the states in the order in which they begin, as they come to be."""
    states = track(states_of(intervals, symbols), "filling the history", intervals, transient=True, console=PROGRESS)
    with database.connection() as connection:
        switch_live_version(connection, ActivePatterns.version)
        with connection.cursor().copy(COPY_STATES) as copy:
            for state in states:
                copy.write_row(history_row(ActivePatterns.version, "recorded", LOG, state))
    with connect(database.dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE tickview.pattern_history_recorded")


def states_of(count: int, symbols: int, seed: int = 1) -> Iterator[ValidityInterval]:
    """States of patterns, each shown for ``ACTIVE`` seconds on average, for almost none or for twice as long."""
    chance = random.Random(seed)  # noqa: S311 a load, not a secret
    for number in range(count):
        begun = BEGIN + number
        ended = begun + ACTIVE * chance.uniform(0.05, 1.95)
        name, pattern, tier = symbol(chance.randrange(symbols)), chance.choice(PATTERN_TYPES), chance.choice(TIERS)
        row = PatternRow(
            id=pattern_id(name, pattern, tier, begun),
            symbol=name,
            pattern=pattern,
            tier=tier,
            confidence=round(chance.uniform(0.3, 1), 4),
            detected_at=begun,
            updated_at=begun,
            expires_at=ended,
            current_price=round(chance.uniform(5, 500), 2),
            price_change=round(chance.gauss(0, 2), 2),
            relative_strength=round(chance.uniform(0.3, 3), 3),
            relative_volume=round(chance.uniform(0.2, 5), 3),
            rsi=round(chance.uniform(10, 90), 2),
            indicators={"sma_20": round(chance.uniform(5, 500), 2)},
            source="bench",
            event_id=f"bench-{number}",
        )
        position = number + 1
        yield ValidityInterval(microseconds(begun), microseconds(ended), row, position, encode_row(row, position))


def _moments(intervals: int, symbols: int, case: Case) -> Iterator[PatternQuery]:
    """Scans of one kind without end, each varied and as of another moment at which enough is active."""
    chance = random.Random(case.name)  # noqa: S311 a load, not a secret
    while True:
        query, _ = case.vary(chance, symbols)
        yield query._replace(now=BEGIN + chance.uniform(min(2 * ACTIVE, intervals / 2), intervals))


async def _ask(history: PostgresPatternHistory, case: Case, queries: Iterator[PatternQuery], seconds: float) -> Asked:
    times: list[float] = []
    started = time.perf_counter()
    while (asked := time.perf_counter()) < started + seconds:
        await history.scan(next(queries), "recorded")
        times.append(time.perf_counter() - asked)
    return _asked(f"{case.name}: {case.what}", times, time.perf_counter() - started)


def _asked(name: str, times: Sequence[float], elapsed: float) -> Asked:
    ordered = sorted(times)
    return Asked(name, len(times) / elapsed, quantile(ordered, 0.5) * 1000, quantile(ordered, 0.99) * 1000)
