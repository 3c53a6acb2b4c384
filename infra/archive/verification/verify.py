"""Verification of the archive: the chain of each log is recomputed, and the first event that does not fit is named."""

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.errors import AuditError
from infra.archive.ranges import WHOLE_ARCHIVE, ArchiveRange
from infra.archive.verification.chain_walk import Progress, walk_chain
from infra.archive.verification.histories import HistoryVerification
from infra.archive.verification.kept_heads import HeadSource
from infra.archive.verification.snapshots import snapshot
from infra.archive.verification.tamper_detection import TamperFinding
from infra.postgres.database import Database
from infra.postgres.statements import load_statements

THREADS = 2
"""Number of logs that are verified at the same time. One waits for the server while the other hashes. More threads do
not help, because Python hashes small inputs in one thread at a time."""


_statements = load_statements(__package__)
_SELECT_LOGS = _statements["select_logs"]
_INSERT_VERIFICATION = _statements["insert_verification"]
_SELECT_LAST_VERIFICATION = _statements["select_last_verification"]


@dataclass(frozen=True)
class LogVerification:
    """The result of the verification of one log."""

    log: str
    first: int | None
    """The first verified position; None if there was none."""
    last: int | None
    """The last position up to which every event fits; None if there was none."""
    events: int
    """Number of successive events that fit."""
    hash: str | None
    """Hash of the last event that fits, in hexadecimal digits."""
    finding: TamperFinding | None
    """The first event that does not fit; None if all events fit."""
    reached: int
    """The last position that fits, whether or not its event is in the archive; 0 if there is none."""
    head_hashes: Mapping[int, bytes] = field(default_factory=dict)
    """The hashes computed for the positions that the caller asked for, as far as the chain reaches them."""

    @classmethod
    def of_missing_log(cls, log: str) -> "LogVerification":
        """Return the result for a log that the archive does not have."""
        return cls(log, first=None, last=None, events=0, hash=None, finding=None, reached=0)

    def document(self) -> dict[str, Any]:
        """Return the result as it is recorded and printed."""
        return {
            "log": self.log,
            "first": self.first,
            "last": self.last,
            "events": self.events,
            "hash": self.hash,
            "misfit": self.finding._asdict() if self.finding else None,
        }


@dataclass(frozen=True)
class Verification:
    """The result of a verification. Times are in epoch seconds."""

    started_at: float
    finished_at: float
    logs: Sequence[LogVerification]
    histories: Sequence[HistoryVerification] = ()
    heads: Sequence[HeadSource] = ()

    @property
    def ok(self) -> bool:
        """Whether every event of every log fits, and every verified row of a history follows from the events."""
        findings = [each.finding for parts in (self.logs, self.histories, self.heads) for each in parts]
        return all(finding is None for finding in findings)

    def document(self) -> dict[str, Any]:
        """Return the result as it is printed."""
        events = sum(log.events for log in self.logs)
        return _document(self.started_at, self.finished_at, events, self.result())

    def result(self) -> dict[str, Any]:
        """Return the part of the document that is recorded as JSON."""
        return {
            "ok": self.ok,
            "logs": [log.document() for log in self.logs],
            "histories": [history.document() for history in self.histories],
            "heads": [source.document() for source in self.heads],
        }


def no_progress(log: str, done: int, total: int) -> None:
    """Report no progress."""


def verify(
    database: Database,
    log: str | None = None,
    archive_range: ArchiveRange = WHOLE_ARCHIVE,
    progress: Progress = no_progress,
    head_positions: Mapping[str, Collection[int]] | None = None,
    since: date | None = None,
) -> Verification:
    """Verify each log up to its present checkpoint. Archiving goes on meanwhile.

    Args:
        database: The archive.
        log: The log to verify; None for every log.
        archive_range: The range of each log.
        progress: A function that is told the progress, from several threads.
        head_positions: The positions of each log for which the caller needs the computed hashes.
        since: The first month that the archive should have; None: every month.

    Raises:
        AuditError: The archive does not have the log.
        ArchiveUnavailableError: The archive cannot be reached.
    """
    started_at = time.time()
    with database.connection() as connection:
        # A log that the archive lacks is no error of the caller if a head proves that the archive had it.
        is_kept = log is not None and log in (head_positions or {})
        logs = [name for name in archived_logs(connection, None if is_kept else log) if log in (None, name)]

    def verify_log(name: str) -> LogVerification:
        positions = (head_positions or {}).get(name, ())
        with snapshot(database) as connection:
            walk = walk_chain(connection, name, archive_range, progress, positions, since)
        events = walk.end.position - walk.start.position
        return LogVerification(
            log=name,
            first=walk.start.position + 1 if events else None,
            last=walk.end.position if events else None,
            events=events,
            hash=walk.end.hash.hex() if events else None,
            finding=walk.finding,
            reached=walk.end.position,
            head_hashes=walk.head_hashes,
        )

    with ThreadPoolExecutor(THREADS) as threads:
        results = list(threads.map(verify_log, logs))
    return Verification(started_at, time.time(), results)


def archived_logs(connection: Connection, log: str | None = None) -> list[str]:
    """Return the names of the archived logs, or only ``log``. Raises AuditError if the archive does not have it."""
    names = [name for (name,) in connection.execute(_SELECT_LOGS, [ARCHIVE, FORMAT_VERSION])]
    if log is None:
        return names
    if log not in names:
        raise AuditError(f"The archive has no log {log}. It has: {', '.join(names) or 'none'}")
    return [log]


def record_verification(database: Database, verification: Verification) -> None:
    """Record the result of a verification of the whole archive. Raises ArchiveUnavailableError."""
    events = sum(log.events for log in verification.logs)
    with database.connection() as connection:
        values = [verification.started_at, verification.finished_at, events, Jsonb(verification.result())]
        connection.execute(_INSERT_VERIFICATION, values)


def last_verification(database: Database) -> dict[str, Any] | None:
    """Return the result of the last verification of the whole archive. None before the first verification.

    The dictionary is that of ``Verification.document``. Raises ArchiveUnavailableError.
    """
    with database.connection() as connection:
        row = connection.execute(_SELECT_LAST_VERIFICATION).fetchone()
    return _document(*row) if row else None


def _document(started_at: float, finished_at: float, events: int, result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "started_at": started_at,
        "finished_at": finished_at,
        "events": events,
        "events_per_second": round(events / max(finished_at - started_at, 1e-6), 1),
        # Results of earlier releases lack these parts.
        "histories": [],
        "heads": [],
        **result,
    }
