"""Helpers for tests of the archive: a database whose client crashes, and detections to archive."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import time

import psycopg

from domain.events import Event, PatternDetected
from infra.postgres.database import Database
from tests.integration.crashes import CrashError


class CrashingDatabase(Database):
    """The real database of a process that crashes before or after some of its commits.

    Args:
        dsn: The DSN of the database.
        crashes: For each transaction "none", "before" or "after". No crash once there are no more.
    """

    def __init__(self, dsn: str, crashes: Iterator[str]) -> None:
        super().__init__(dsn)
        self._crashes = crashes

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection]:
        """Yield a connection and commit at the end, unless the process crashes before."""
        crash = next(self._crashes, "none")
        with super().connection() as connection:
            yield connection
            if crash == "before":
                raise CrashError
        if crash == "after":
            raise CrashError


def detections(count: int, symbol: str = "AAPL") -> list[Event]:
    """Return ``count`` detections of different moments, each announced with one confidence and then with another."""
    now = round(time(), 3)
    fields = {"source": "test", "symbol": symbol, "pattern": "Doji", "tier": "daily", "occurred_at": now}
    return [
        PatternDetected.model_validate(
            {
                **fields,
                "event_id": f"{symbol}{number}{confidence}",
                "detected_at": now - number,
                "confidence": confidence,
            }
        )
        for number in range(count)
        for confidence in (0.5, 0.75)
    ]
