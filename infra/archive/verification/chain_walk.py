"""The walk along the hash chain of one log, in one snapshot of the database."""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing
from datetime import date
from itertools import chain
from typing import NamedTuple

from psycopg import Connection

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.months import attached_partitions, partition_name
from infra.archive.ranges import LAST_POSITION, ArchiveRange, first_position, last_position
from infra.archive.row_format import GENESIS, received_rows
from infra.archive.verification.chains import ChainLink, RowLayout
from infra.archive.verification.detached_months import find_detached_months
from infra.archive.verification.tamper_detection import ChainBreak, TamperFinding, classify_break
from infra.postgres.statements import load_statements

PROGRESS_EVENTS = 10_000
"""Highest number of events between two reports of progress."""

Progress = Callable[[str, int, int], object]
"""A function that is called with a log, the number of its verified events, and the number of its events to verify."""

_statements = load_statements(__package__)
_SELECT_EXTENT = _statements["select_extent"]
_COPY_ROWS_BETWEEN = _statements["copy_rows_between"]
_SELECT_HASH_AT = _statements["select_hash_at"]
_SELECT_ANCHORS = _statements["select_anchors"]
_SELECT_ALTERED_ANCHOR = _statements["select_altered_anchor"]


class LogExtent(NamedTuple):
    """The extent of a log according to the archive's tables, and the positions that the archive has."""

    checkpoint: int | None
    head: bytes | None
    """The hash of the last event in ``tickview.logs``."""
    lowest: int | None
    highest: int | None

    @property
    def last(self) -> int:
        """The last position that the archive should have."""
        return (self.highest or 0) if self.checkpoint is None else self.checkpoint


class ChainWalk(NamedTuple):
    """The part of a chain that fits, and the first event that does not."""

    start: ChainLink
    """The link before the first verified event."""
    end: ChainLink
    """The last link that fits."""
    finding: TamperFinding | None
    head_hashes: Mapping[int, bytes]
    """The hashes computed for the positions of heads, as far as the chain reaches them."""


def walk_chain(
    connection: Connection,
    log: str,
    archive_range: ArchiveRange,
    progress: Progress,
    head_positions: Collection[int],
    since: date | None,
) -> ChainWalk:
    """Follow the chain of a log as far as it fits, and classify what does not fit.

    Args:
        connection: A connection that reads one state of the database (``snapshot``).
        log: The log.
        archive_range: The range to verify.
        progress: A function that is told the progress.
        head_positions: The positions for which the caller needs the computed hashes.
        since: The first month that the archive should have; None: every month.
    """
    row = connection.execute(_SELECT_EXTENT, {"name": ARCHIVE, "version": FORMAT_VERSION, "log": log}).fetchone()
    assert row is not None
    extent = LogExtent(*row)
    first = first_position(connection, log, archive_range.start)
    upto = min(last_position(connection, log, archive_range.end), extent.last)
    if first is None or (first > upto and first > 1):
        empty = ChainLink((first or upto + 1) - 1, GENESIS)
        return ChainWalk(empty, empty, None, {})
    start = _start(connection, log, extent, first)
    if start is None:
        before = ChainLink(first - 2, GENESIS)
        missing = TamperFinding(first - 1, "missing", "the event before the range is not in the archive")
        return ChainWalk(before, before, missing, {})
    lowest = first if first > 1 or extent.lowest is None else min(extent.lowest, 1)
    rows = rows_between(connection, log, lowest, upto)
    behind = rows_between(connection, log, upto + 1, LAST_POSITION)
    with closing(behind), closing(rows):
        goal = _Goal(log, upto, head_positions, progress)
        end, head_hashes, mismatch = _follow(start, rows, goal)
        is_short, reaches_end = end.position < upto, upto == extent.last
        remaining = chain(rows, behind)
        if mismatch is None:
            mismatch = next(remaining if is_short or reaches_end else rows, None)
        finding: TamperFinding | None = None
        if mismatch is not None or is_short:
            chain_break = ChainBreak(RowLayout(log), end, extent.last, extent.head)
            finding = classify_break(chain_break, mismatch, remaining)
    finding = (
        find_detached_months(connection, log, start, first, since)
        or finding
        or _check_tables(connection, log, start, end, extent if reaches_end else None)
    )
    return ChainWalk(start, end, finding, head_hashes)


def _start(connection: Connection, log: str, extent: LogExtent, first: int) -> ChainLink | None:
    """Return the link before ``first``, or before the first attached month. None if the link is not in the archive."""
    lowest = extent.last + 1 if extent.lowest is None else extent.lowest
    if first > max(lowest, 1):
        row = connection.execute(_SELECT_HASH_AT, {"log": log, "position": first - 1}).fetchone()
        return ChainLink(first - 1, row[0]) if row else None
    if lowest <= 1:
        return ChainLink(0, GENESIS)
    attached = attached_partitions(connection)
    link = ChainLink(0, GENESIS)
    anchors = connection.execute(_SELECT_ANCHORS, [log, lowest]).fetchall()
    for position, anchor_hash, month in anchors:
        link = ChainLink(position, anchor_hash if position else GENESIS)
        # A month that is still attached should have its events. Verification must begin there to notice the loss.
        if partition_name(month) in attached:
            return link
    if extent.lowest is None and anchors and extent.head is not None:
        return ChainLink(extent.last, extent.head)
    return link


def rows_between(connection: Connection, log: str, first: int, last: int) -> Generator[bytes]:
    """Yield the rows of a log from position ``first`` to ``last``, both included, in the format of binary COPY."""
    with connection.cursor().copy(_COPY_ROWS_BETWEEN, [log, first, last]) as copy:
        yield from received_rows(copy)


class _Goal(NamedTuple):
    """The end of a walk, and what to report on the way."""

    log: str
    upto: int
    head_positions: Collection[int]
    progress: Progress


def _follow(start: ChainLink, rows: Iterator[bytes], goal: _Goal) -> tuple[ChainLink, dict[int, bytes], bytes | None]:
    """Return the last link that fits, the hashes at the head positions, and the row that does not fit, if any."""
    layout, link, row = RowLayout(goal.log), start, None
    head_hashes = {start.position: start.hash} if start.position in goal.head_positions else {}
    while row is None and link.position < goal.upto:
        stop = min(goal.upto, link.position + PROGRESS_EVENTS)
        stop = min([stop, *(position for position in goal.head_positions if position > link.position)])
        link, row = layout.follow(link, rows, stop)
        goal.progress(goal.log, link.position - start.position, goal.upto - start.position)
        if link.position in goal.head_positions:
            head_hashes[link.position] = link.hash
        if link.position < stop:
            break
    return link, head_hashes, row


def _check_tables(
    connection: Connection, log: str, start: ChainLink, end: ChainLink, extent: LogExtent | None
) -> TamperFinding | None:
    """Compare checkpoint, head and anchors with the chain. ``extent`` is None if ``end`` is not the end of the log."""
    if extent and extent.highest is not None and extent.checkpoint is None:
        return TamperFinding(extent.last, "missing", "tickview.segments has no checkpoint of the archive for this log")
    if extent and extent.last and extent.head is None:
        return TamperFinding(extent.last, "missing", "tickview.logs has no row for this log")
    if extent and extent.head is not None and extent.head != end.hash:
        return TamperFinding(extent.last, "changed", "tickview.logs has a different hash for the last event")
    row = connection.execute(_SELECT_ALTERED_ANCHOR, [log, start.position, end.position]).fetchone()
    return TamperFinding(row[0], "changed", "tickview.anchors has a different hash for this event") if row else None
