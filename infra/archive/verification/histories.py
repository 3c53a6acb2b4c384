"""Verification of the histories of read models: their rows are derived again from the chained events.

Queries as of a moment are answered from the tables of the histories. No hash covers these tables, because all of their
content follows from the events. Verification therefore compares them with the events:

- of the whole log: every event, and every row of the history;
- of a range: the units of the events in the range, and the rows that these events should have produced;
- as a sample: the same for a random range, and the rows that a query as of a random moment finds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, DataError
from psycopg.errors import UndefinedColumn, UndefinedTable
from psycopg.sql import SQL

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.ranges import WHOLE_ARCHIVE
from infra.archive.row_history.tables import HistoryTables, original
from infra.archive.row_history.unit_events import HistorySegment
from infra.archive.row_history.versions import live_version
from infra.archive.verification.chain_walk import Progress
from infra.archive.verification.history_rows import HistoryFinding
from infra.archive.verification.history_segments import HistoryExtent, Scope, SegmentVerifier
from infra.archive.verification.snapshots import snapshot
from infra.postgres.database import Database
from infra.postgres.statements import load_statements
from projections.base import Projection

_statements = load_statements(__package__)
_SELECT_CHECKPOINTS = _statements["select_history_checkpoints"]
_SELECT_FOREIGN_STATE = SQL(_statements["select_foreign_state"])


@dataclass(frozen=True)
class HistoryVerification:
    """The result of the verification of a history on one log."""

    history: str
    version: int
    log: str | None
    """None: the result is about the history as a whole."""
    events: int = 0
    """Number of events from which the rows were derived, without those that only complete their units."""
    rows: int = 0
    """Number of rows that are as the events say."""
    skipped: int = 0
    """Number of units that have events in detached months, so that their rows cannot be derived."""
    finding: HistoryFinding | None = None
    """The first row that does not follow from the events; None if all rows do."""
    note: str | None = None
    """Why nothing was verified; None if something was."""

    def document(self) -> dict[str, Any]:
        """Return the result as it is recorded and printed."""
        return {
            "history": self.history,
            "version": self.version,
            "log": self.log,
            "events": self.events,
            "rows": self.rows,
            "skipped": self.skipped,
            "misfit": self.finding._asdict() if self.finding else None,
            "note": self.note,
        }


def verify_histories(
    database: Database,
    projections: Iterable[Projection[Any, Any]],
    progress: Progress,
    log: str | None = None,
    scope: Scope = WHOLE_ARCHIVE,
) -> list[HistoryVerification]:
    """Verify the live version of each history. Folding goes on meanwhile.

    Args:
        database: The archive.
        projections: The projections of this process, current and former.
        progress: A function that is told the progress.
        log: The log to verify; None for every log.
        scope: Which part of each log to verify.

    Raises:
        ArchiveUnavailableError: The archive cannot be reached.
    """
    versions: dict[str, dict[int, Projection[Any, Any]]] = {}
    for projection in projections:
        if projection.history:
            versions.setdefault(projection.history, {})[projection.version] = projection
    results: list[HistoryVerification] = []
    for candidates in versions.values():
        results += _verify_history(database, candidates, progress, log, scope)
    return results


def _verify_history(
    database: Database,
    candidates: dict[int, Projection[Any, Any]],
    progress: Progress,
    log: str | None,
    scope: Scope,
) -> Iterator[HistoryVerification]:
    tables = HistoryTables(candidates[max(candidates)])
    with snapshot(database) as connection:
        live = live_version(connection, tables)
        if live is None:
            return
        extents = _extents(connection, tables.name, live)
    if live not in candidates:
        yield _unknown_version(tables.name, live, extents, max(candidates))
        return
    projection = candidates[live]
    tables = HistoryTables(projection)
    fits = True
    for extent in extents:
        if log in (None, extent.log):
            result = _verify_segment(database, HistorySegment(projection, tables, live, extent.log), progress, scope)
            fits &= result.finding is None
            yield result
    if fits and log is None:
        yield from _foreign_row(database, tables, live, [extent.log for extent in extents])


def _extents(connection: Connection, name: str, version: int) -> list[HistoryExtent]:
    rows = connection.execute(_SELECT_CHECKPOINTS, [ARCHIVE, FORMAT_VERSION, name, version])
    return [HistoryExtent(*row) for row in rows]


def _unknown_version(name: str, live: int, extents: list[HistoryExtent], known: int) -> HistoryVerification:
    if extents:
        note = f"not verified: version {live} is live, and this release has version {known}"
        return HistoryVerification(name, live, None, note=note)
    detail = f"tickview.live_versions names version {live}, which no archiver has folded"
    return HistoryVerification(name, live, None, finding=HistoryFinding(name, None, None, "changed", detail))


def _foreign_row(
    database: Database, tables: HistoryTables, version: int, logs: list[str]
) -> Iterator[HistoryVerification]:
    """Yield a finding if the history has a row of a log that it does not fold. Queries would return the row."""
    with snapshot(database) as connection:
        row = connection.execute(_SELECT_FOREIGN_STATE.format(history=tables.history), [version, logs]).fetchone()
    if row:
        key, timeline, log = row
        finding = HistoryFinding(original(key), timeline, None, "added", f"the history has no events of the log {log}")
        yield HistoryVerification(tables.name, version, log, finding=finding)


def _verify_segment(
    database: Database, segment: HistorySegment, progress: Progress, scope: Scope
) -> HistoryVerification:
    with snapshot(database) as connection:
        [extent] = [
            each for each in _extents(connection, segment.tables.name, segment.version) if each.log == segment.log
        ]
        verifier = SegmentVerifier(connection, segment, extent, progress)
        try:
            verifier.verify(scope)
        except (DataError, UndefinedTable, UndefinedColumn) as error:
            # The table was dropped or altered, or holds a value that TickView never writes.
            detail = f"the tables cannot be read: {error}".partition("\n")[0]
            verifier.finding = HistoryFinding(segment.tables.name, None, None, "changed", detail)
    return HistoryVerification(
        segment.tables.name,
        segment.version,
        segment.log,
        verifier.events,
        verifier.rows,
        len(verifier.skipped),
        verifier.finding,
    )
