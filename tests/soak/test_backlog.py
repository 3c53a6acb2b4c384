"""A backlog in the ingest stream: all roles work as fast as the machine permits, and the history follows the archive.

``make soak`` prints the figures of ``docs/performance.md``.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from redis import Redis
from rich.console import Console
from rich.table import Table

from domain.streams import market_logs
from infra.log.event_log import EventLog
from tests.chaos.system import System, running_system
from tests.soak.lags import past_lag, positions_of
from tests.soak.load import CHANNEL, STREAM

MESSAGES = int(os.environ.get("SOAK_MESSAGES", "60000"))
"""Messages of the backlog: a third each announce, update and end patterns."""

DISTANCE = 1_000
"""Patterns that are announced between two messages about the same pattern."""

BATCH = 500
"""Messages that are added in one round trip."""

LOOK_SECONDS = 1.0
"""Seconds between two rows of the table."""

DEADLINE_SECONDS = 600.0

BEHIND_SECONDS = 30.0
"""Seconds by which the history may be behind. A history that is slower than the archive falls behind without end."""

pytestmark = pytest.mark.timeout(DEADLINE_SECONDS + 120)


def messages(count: int) -> Iterator[str]:
    """Yield messages about patterns in the order of their announcements."""
    began = time.time()
    for number in range(count // 3 + 2 * DISTANCE):
        for event_type, pattern in (
            ("pattern_detected", number),
            ("pattern_updated", number - DISTANCE),
            ("pattern_expired", number - 2 * DISTANCE),
        ):
            if 0 <= pattern < count // 3:
                yield json.dumps(message(event_type, pattern, began))


def message(event_type: str, pattern: int, began: float) -> dict[str, Any]:
    """Build a message about a pattern."""
    data = {"symbol": f"S{pattern % 500}", "pattern": "Doji", "detected_at": began + pattern / 1_000, "source": "daily"}
    if event_type != "pattern_expired":
        data["confidence"] = pattern % 101 / 100
    return {"event_type": event_type, "event_id": f"{event_type}-{pattern}", "timestamp": began, "data": data}


def add(redis: Redis, backlog: Sequence[str]) -> None:
    """Add messages to the ingest stream."""
    for start in range(0, len(backlog), BATCH):
        with redis.pipeline(transaction=False) as pipeline:
            for payload in backlog[start : start + BATCH]:
                pipeline.xadd(STREAM, {"channel": CHANNEL, "payload": payload})
            pipeline.execute()


def observe(system: System, redis: Redis, table: Table, seconds: float) -> tuple[int, float]:
    """Add a row to the table. Return the events in the history, and the seconds by which it is behind the archive."""
    recorded = sum(EventLog(redis, name).head() for name in market_logs(4))
    positions = positions_of(system.postgres_dsn)
    folded, behind = positions.get("pattern_history", 0), past_lag(system.postgres_dsn)
    row = (f"{seconds:.0f}", recorded, positions.get("archive", 0), folded, f"{behind:.2f}")
    table.add_row(*map(str, row))
    return folded, behind


def test_the_history_follows_the_archive_while_all_roles_work_off_a_backlog() -> None:
    backlog = list(messages(MESSAGES))
    table = Table("second", "recorded", "archived", "in the history", "behind the archive, s")
    with running_system() as system, Redis.from_url(system.redis.roles_url) as redis:
        add(redis, backlog)
        began, folded, worst = time.monotonic(), 0, 0.0
        while folded < len(backlog) and (seconds := time.monotonic() - began) < DEADLINE_SECONDS:
            time.sleep(LOOK_SECONDS)
            folded, behind = observe(system, redis, table, seconds)
            worst = max(worst, behind)
    Console(width=100).print(table)
    assert folded == len(backlog)
    assert worst < BEHIND_SECONDS
