"""Verifies the archive: recomputes the chain of each log, and names the first event that does not fit."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.ranges import ArchiveRange
from infra.archive.verification.chain_walk import Progress, walk
from infra.archive.verification.tamper_detection import TamperFinding
from infra.postgres.database import Database
from infra.processes.errors import StartupError

SIDE_BY_SIDE = 2
"""Logs verified at once: while one waits for the server, the other hashes; Python does not hash more at once."""

WHOLE_ARCHIVE = ArchiveRange()

_LOGS = """
SELECT log FROM tickview.logs UNION SELECT log FROM tickview.segments WHERE name = %s AND version = %s
UNION (
    WITH RECURSIVE found AS (
        (SELECT log FROM tickview.events ORDER BY log LIMIT 1)
        UNION ALL
        SELECT (SELECT log FROM tickview.events WHERE log > found.log ORDER BY log LIMIT 1) FROM found
        WHERE found.log IS NOT NULL
    )
    SELECT log FROM found WHERE log IS NOT NULL
) ORDER BY log
"""

_RECORD = """
INSERT INTO tickview.verifications (started_at, finished_at, events, result)
VALUES (to_timestamp(%s), to_timestamp(%s), %s, %s)
"""

_LAST = """
SELECT extract(epoch FROM started_at)::float8, extract(epoch FROM finished_at)::float8, events, result
FROM tickview.verifications ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True)
class LogVerification:
    """What the verification of one log has found."""

    log: str
    first: int | None
    """The first position that was verified; None if there was none."""
    last: int | None
    """The last position up to which everything fits."""
    events: int
    """Events that fit, one behind the other."""
    hash: str | None
    """Of the last event that fits, in hexadecimal digits."""
    misfit: TamperFinding | None
    marked: bytes | None
    """The hash computed for the position that was asked for; None if the chain does not come by it."""

    def document(self) -> dict[str, Any]:
        """As it is recorded and printed."""
        return {
            "log": self.log,
            "first": self.first,
            "last": self.last,
            "events": self.events,
            "hash": self.hash,
            "misfit": self.misfit._asdict() if self.misfit else None,
        }


@dataclass(frozen=True)
class Verification:
    """What a verification has found. Times are in epoch seconds."""

    started_at: float
    finished_at: float
    logs: Sequence[LogVerification]

    @property
    def ok(self) -> bool:
        """Whether everything fits."""
        return all(log.misfit is None for log in self.logs)

    def document(self) -> dict[str, Any]:
        """The whole as a document."""
        events = sum(log.events for log in self.logs)
        logs = [log.document() for log in self.logs]
        return _document(self.started_at, self.finished_at, events, {"ok": self.ok, "logs": logs})


def _tell_nobody(log: str, done: int, total: int) -> None:
    pass


def verify(
    database: Database,
    log: str | None = None,
    bounds: ArchiveRange = WHOLE_ARCHIVE,
    progress: Progress = _tell_nobody,
    marks: Mapping[str, int] | None = None,
) -> Verification:
    """Verify every log, or one, up to its checkpoint at this moment; archiving goes on meanwhile.

    ``marks`` are positions, by log, whose computed hashes the caller wants to know. ``progress`` is called from
    several threads. Raises StartupError for a log that the archive does not have, and ArchiveUnavailableError.
    """
    started_at = time.time()
    with database.connection() as connection:
        logs = archived_logs(connection, log)

    def verified(name: str) -> LogVerification:
        return _verify_log(database, name, bounds, progress, (marks or {}).get(name))

    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        results = list(threads.map(verified, logs))
    return Verification(started_at, time.time(), results)


def archived_logs(connection: Connection, wanted: str | None = None) -> list[str]:
    """The logs that the archive has anything of, or the one wanted. Raises StartupError if it does not have that."""
    found = [log for (log,) in connection.execute(_LOGS, [ARCHIVE, FORMAT_VERSION])]
    if wanted is None:
        return found
    if wanted not in found:
        raise StartupError(f"the archive has no log {wanted}: it has {', '.join(found) or 'none'}")
    return [wanted]


@contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """A connection that sees one moment of the database, and is sent rows in the order of an index as they come."""
    with database.connection() as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        connection.execute("SET LOCAL enable_sort = off")
        connection.execute("SET LOCAL jit = off")
        yield connection


def _verify_log(
    database: Database, log: str, bounds: ArchiveRange, progress: Progress, mark: int | None
) -> LogVerification:
    with snapshot(database) as connection:
        start, link, misfit, marked = walk(connection, log, bounds, progress, mark)
    events = link.position - start.position
    return LogVerification(
        log=log,
        first=start.position + 1 if events else None,
        last=link.position if events else None,
        events=events,
        hash=link.hash.hex() if events else None,
        misfit=misfit,
        marked=marked,
    )


def record_verification(database: Database, verification: Verification) -> None:
    """Keep what a verification of the whole archive has found. Raises ArchiveUnavailableError."""
    document = verification.document()
    result = {"ok": document["ok"], "logs": document["logs"]}
    with database.connection() as connection:
        connection.execute(
            _RECORD, [verification.started_at, verification.finished_at, document["events"], Jsonb(result)]
        )


def last_verification(database: Database) -> dict[str, Any] | None:
    """What the last verification of the whole archive has found; None if there was none.

    A dictionary like ``Verification.shown``, times in epoch seconds. Raises ArchiveUnavailableError.
    """
    with database.connection() as connection:
        found = connection.execute(_LAST).fetchone()
    return _document(*found) if found else None


def _document(started_at: float, finished_at: float, events: int, result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "started_at": started_at,
        "finished_at": finished_at,
        "events": events,
        "events_per_second": round(events / max(finished_at - started_at, 1e-6), 1),
        **result,
    }
