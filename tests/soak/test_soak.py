"""Soak: half the peak rate with reads and push, and a tenfold burst. Memory, keys and files stay bounded.

``make soak MINUTES=15`` prints the figures of ``docs/reliability.md``.
"""

import os
import time
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import psycopg
import pytest
from redis import Redis
from rich.console import Console
from rich.table import Table

from tests.chaos.system import ROLES, System, running_system
from tests.plain_http import PLAIN_HTTP
from tests.processes.roles import wait_until
from tests.soak.lags import past_lag
from tests.soak.load import LIFE_SECONDS, STREAM, Load

MINUTES = float(os.environ.get("SOAK_MINUTES", "15"))

RATE = int(os.environ.get("SOAK_RATE", "250"))
"""Events per second on each of two ways."""

BURST_SECONDS = 20.0
BURST_FACTOR = 10

SAMPLES = 12
"""Number of rows of the table."""

SETTLE_SECONDS = 120.0

SETTINGS = {"TICKVIEW_LOG_RETENTION_SIZE": "20000", "TICKVIEW_LOG_RETENTION_AGE": "60", "TICKVIEW_VERIFY_EVERY": "60"}

pytestmark = pytest.mark.timeout(60 * MINUTES + 600)


class Figures(NamedTuple):
    """The state of the system at one moment."""

    minutes: float
    events: int
    memory: dict[str, int]
    """Role -> megabytes of all its processes. Shared memory counts once per process."""
    redis: int
    """Megabytes of Redis."""
    keys: int
    waiting: int
    """Entries of the ingest stream that are not recorded yet."""
    lag: float
    """Seconds by which the patterns are behind the log."""
    past_lag: float
    """Seconds by which the history of the patterns is behind the archive."""
    slowest_scan: float


def take_figures(system: System, redis: Redis, load: Load, client: httpx.Client, began: float) -> Figures:
    memory = {
        role: sum(process.memory_info().rss for process in system.processes_of(role)) // 1_000_000 for role in ROLES
    }
    return Figures(
        (time.monotonic() - began) / 60,
        load.totals.posted + load.totals.added,
        memory,
        int(redis.info("memory")["used_memory"]) // 1_000_000,
        int(redis.dbsize()),
        int(redis.xlen(STREAM)),
        client.get("/api/health").json()["read_models"]["patterns"]["lag_seconds"],
        past_lag(system.postgres_dsn),
        load.scanner.take_slowest(),
    )


def print_figures(figures: list[Figures], load: Load) -> None:
    table = Table(
        "minute",
        "events",
        *(f"{role} MB" for role in ROLES),
        "redis MB",
        "keys",
        "waiting",
        "lag s",
        "past s",
        "scan s",
    )
    for each in figures:
        row = [f"{each.minutes:.1f}", each.events, *(each.memory[role] for role in ROLES), each.redis, each.keys]
        table.add_row(
            *map(str, [*row, each.waiting, f"{each.lag:.1f}", f"{each.past_lag:.1f}", f"{each.slowest_scan:.2f}"])
        )
    console = Console(width=160)
    console.print(table)
    console.print(load.totals, f"{load.scanner.scans} scans")


def archived_events(dsn: str) -> int:
    """Count the detections in the archive."""
    with psycopg.connect(dsn) as connection:
        [[count]] = connection.execute("SELECT count(*) FROM tickview.events WHERE topic LIKE '%PatternDetected%'")
    return int(count)


def test_nothing_grows_without_a_bound() -> None:
    with (
        running_system(**SETTINGS) as system,
        Redis.from_url(system.redis.roles_url) as redis,
        httpx.Client(base_url=system.api_url, timeout=30, verify=PLAIN_HTTP) as client,
    ):
        load, began, figures = Load(system.api_url, system.redis.roles_url, RATE), time.monotonic(), list[Figures]()
        with load.running():
            for number in range(SAMPLES):
                if number == SAMPLES // 2:
                    load.rate = RATE * BURST_FACTOR
                    time.sleep(BURST_SECONDS)
                    load.rate = RATE
                time.sleep(max(0.0, began + (number + 1) * 60 * MINUTES / SAMPLES - time.monotonic()))
                figures.append(take_figures(system, redis, load, client, began))
        print_figures(figures, load)
        wait_until(lambda: not redis.xlen(STREAM), "the ingest stream is recorded")
        sent = load.totals.posted + load.totals.added
        deadline = time.monotonic() + SETTLE_SECONDS
        while archived_events(system.postgres_dsn) != sent and time.monotonic() < deadline:
            time.sleep(1)
        assert archived_events(system.postgres_dsn) == sent, "an event is lost or doubled"
        check_bounds(figures, system, redis)


def check_bounds(figures: list[Figures], system: System, redis: Redis) -> None:
    """Compare the end with the time before the burst, when everything had its steady size."""
    before, after = figures[SAMPLES // 4 : SAMPLES // 2], figures[-SAMPLES // 4 :]
    for role in ROLES:
        # The lowest of several figures: a process that verifies the archive runs for a moment and counts with it.
        steady, end = (min(each.memory[role] for each in part) for part in (before, after))
        assert end <= 1.25 * steady + 30, role
    steady_state, end_state = before[-1], after[-1]
    assert end_state.redis <= 2 * steady_state.redis + 50
    assert end_state.keys <= 2 * steady_state.keys + 1_000
    assert end_state.lag < LIFE_SECONDS
    assert end_state.past_lag < LIFE_SECONDS
    assert len(redis.xinfo_consumers(STREAM, "tickview")) <= 2
    assert max(log.stat().st_size for log in Path(system.data / "logs").iterdir()) < 20_000_000
    assert all(psutil.pid_exists(process.pid) for role in ROLES for process in system.processes_of(role))
