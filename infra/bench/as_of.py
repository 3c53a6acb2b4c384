"""Part of ``tickview bench archive``: the rate and latency of scans as of a time, over a synthetic history."""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from psycopg import connect
from rich.progress import track

from infra.archive.row_history.state_rows import copy_states
from infra.archive.row_history.tables import HistoryTables
from infra.archive.row_history.versions import switch_live_version
from infra.bench.detections import PATTERN_TYPES, TIERS, symbol
from infra.bench.measurement import PROGRESS_CONSOLE, quantile
from infra.bench.scans import SCAN_KINDS, ScanKind
from infra.postgres.database import Database
from infra.serving.archive import ArchiveGateway, ArchiveServers
from infra.serving.row_history import PostgresHistory
from projections.base import encode_row
from projections.patterns import ActivePatterns, PatternRow, pattern_id
from projections.queries import Query
from projections.row_history import TIMELINES, State, ValidityInterval, microseconds

ACTIVE_PATTERNS = 10_000
"""Approximate number of patterns that are active at any time."""

FIRST_START = 1_757_001_600.0
"""Start of the first state, in epoch seconds. One more state starts each second."""

LOG = "market-0"
"""Name of the log of the synthetic history."""


class AsOfScanRate(NamedTuple):
    """The rate and latencies of one kind of scan as of different times. The scans run in sequence on one connection."""

    name: str
    per_second: float
    """Scans per second."""
    p50_ms: float
    p99_ms: float


def measure(database: Database, intervals: int, symbols: int, seconds: float) -> list[AsOfScanRate]:
    """Write a synthetic history into an empty archive and measure every kind of scan.

    Args:
        database: The empty archive.
        intervals: Number of states in the history.
        symbols: Number of symbols.
        seconds: Duration of the measurement of each kind of scan.
    """
    fill(database, intervals, symbols)
    history = PostgresHistory(ArchiveServers(ArchiveGateway(database)), ActivePatterns, [LOG])
    return [
        asyncio.run(_measure_scans(history, kind, _random_queries(intervals, symbols, kind), seconds))
        for kind in track(SCAN_KINDS, description="scanning the past", transient=True, console=PROGRESS_CONSOLE)
    ]


def fill(database: Database, intervals: int, symbols: int) -> None:
    """Write synthetic states in the order of their start, which is the order in which an archiver writes them."""
    states = track(
        synthetic_states(intervals, symbols),
        "filling the history",
        intervals,
        transient=True,
        console=PROGRESS_CONSOLE,
    )
    tables = HistoryTables(ActivePatterns)
    with database.connection() as connection:
        tables.create(connection)
        tables.create_indexes(connection)
        switch_live_version(connection, tables, ActivePatterns.version)
        on_both: Iterator[State] = ((timeline, state) for state in states for timeline in TIMELINES)
        copy_states(connection, tables, ActivePatterns.version, LOG, on_both)
    with connect(database.dsn, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE tickview.pattern_history")


def synthetic_states(count: int, symbols: int, seed: int = 1) -> Iterator[ValidityInterval]:
    """Yield states of patterns. A state is valid for 5 % to 195 % of ``ACTIVE_PATTERNS`` seconds."""
    chance = random.Random(seed)  # noqa: S311 not for security
    for number in range(count):
        valid_from = FIRST_START + number
        valid_to = valid_from + ACTIVE_PATTERNS * chance.uniform(0.05, 1.95)
        name, pattern, tier = symbol(chance.randrange(symbols)), chance.choice(PATTERN_TYPES), chance.choice(TIERS)
        row = PatternRow(
            id=pattern_id(name, pattern, tier, valid_from),
            symbol=name,
            pattern=pattern,
            tier=tier,
            confidence=round(chance.uniform(0.3, 1), 4),
            detected_at=valid_from,
            updated_at=valid_from,
            expires_at=valid_to,
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
        yield ValidityInterval(
            row.id, microseconds(valid_from), microseconds(valid_to), row, position, encode_row(row, position)
        )


def _random_queries(intervals: int, symbols: int, kind: ScanKind) -> Iterator[Query]:
    """Yield scans of one kind without end, with random parameters and as of random times."""
    chance = random.Random(kind.name)  # noqa: S311 not for security
    while True:
        query, _ = kind.vary(chance, symbols)
        yield query._replace(now=FIRST_START + chance.uniform(min(2 * ACTIVE_PATTERNS, intervals / 2), intervals))


async def _measure_scans(
    history: PostgresHistory, kind: ScanKind, queries: Iterator[Query], seconds: float
) -> AsOfScanRate:
    times: list[float] = []
    started = time.perf_counter()
    while (scan_started := time.perf_counter()) < started + seconds:
        await history.page(next(queries), "recorded")
        times.append(time.perf_counter() - scan_started)
    return _summarize(f"{kind.name}: {kind.description}", times, time.perf_counter() - started)


def _summarize(name: str, times: Sequence[float], elapsed: float) -> AsOfScanRate:
    ordered = sorted(times)
    return AsOfScanRate(name, len(times) / elapsed, quantile(ordered, 0.5) * 1000, quantile(ordered, 0.99) * 1000)
