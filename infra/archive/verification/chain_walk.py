"""One way along the chain of one log, in one snapshot of the database."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain
from typing import LiteralString, NamedTuple

from psycopg import Connection

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION
from infra.archive.months import partition_name
from infra.archive.ranges import LAST_POSITION, ArchiveRange, first_position, last_position
from infra.archive.row_format import GENESIS, received_rows
from infra.archive.verification.chains import ChainLink, RowLayout
from infra.archive.verification.tamper_detection import Chain, TamperFinding, judge

REPORTED_EVERY = 10_000
"""Events between two reports of progress."""

Progress = Callable[[str, int, int], object]
"""Told of a log, now and then, how many of its events have been verified and how many there are to verify."""

_ENDS = """
SELECT
    (SELECT position FROM tickview.segments WHERE name = %(name)s AND version = %(version)s AND log = %(log)s),
    (SELECT hash FROM tickview.logs WHERE log = %(log)s),
    (SELECT position FROM tickview.events WHERE log = %(log)s ORDER BY position LIMIT 1),
    (SELECT position FROM tickview.events WHERE log = %(log)s ORDER BY position DESC LIMIT 1)
"""

_ROWS: LiteralString = """
COPY (
    SELECT * FROM tickview.events WHERE log = %s AND position >= %s AND position <= %s ORDER BY position
) TO STDOUT (FORMAT binary)
"""

_HASH_AT = """
SELECT hash FROM tickview.events WHERE log = %(log)s AND position = %(position)s
UNION ALL SELECT hash FROM tickview.anchors WHERE log = %(log)s AND position = %(position)s LIMIT 1
"""

_ANCHORS = "SELECT position, hash, month FROM tickview.anchors WHERE log = %s AND position < %s ORDER BY position"

_ATTACHED = """
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'tickview.events'::regclass
"""

_ALTERED_ANCHOR = """
SELECT position FROM tickview.anchors JOIN tickview.events USING (log, position)
WHERE log = %s AND position BETWEEN %s AND %s AND anchors.hash <> events.hash ORDER BY position LIMIT 1
"""


class Ends(NamedTuple):
    """What the archive says of a log: how far it goes, and what it has."""

    checkpoint: int | None
    head: bytes | None
    lowest: int | None
    highest: int | None

    @property
    def last(self) -> int:
        """The last position that there should be."""
        return (self.highest or 0) if self.checkpoint is None else self.checkpoint


class ChainWalk(NamedTuple):
    """How far the chain fits."""

    start: ChainLink
    """Behind which it was followed."""
    link: ChainLink
    """The last that fits."""
    misfit: TamperFinding | None
    marked: bytes | None
    """The hash computed for the position that was asked for; None if the chain does not come by it."""


def walk(connection: Connection, log: str, bounds: ArchiveRange, progress: Progress, mark: int | None) -> ChainWalk:
    """Follow the chain of a log as far as it fits, and judge what does not. ``connection`` sees one moment."""
    found = connection.execute(_ENDS, {"name": ARCHIVE, "version": FORMAT_VERSION, "log": log}).fetchone()
    assert found is not None
    ends = Ends(*found)
    first = first_position(connection, log, bounds.start)
    upto = min(last_position(connection, log, bounds.end), ends.last)
    if first is None or (first > upto and first > 1):
        nothing = ChainLink((first or upto + 1) - 1, GENESIS)
        return ChainWalk(nothing, nothing, None, None)
    start = _start(connection, log, ends, first)
    if start is None:
        before = ChainLink(first - 2, GENESIS)
        return ChainWalk(before, before, TamperFinding(first - 1, "missing", "it is where the range begins"), None)
    lowest = first if first > 1 or ends.lowest is None else min(ends.lowest, 1)
    rows = rows_between(connection, log, lowest, upto)
    behind = rows_between(connection, log, upto + 1, LAST_POSITION)
    with closing(behind), closing(rows):
        link, marked, row = _follow(log, start, rows, upto, progress, mark)
        is_short, is_whole = link.position < upto, upto == ends.last
        rest = chain(rows, behind)
        if row is None:
            row = next(rest if is_short or is_whole else rows, None)
        misfit = None
        if row is not None or is_short:
            misfit = judge(Chain(RowLayout(log), link, ends.last, ends.head), row, rest)
    misfit = misfit or _look_beside(connection, log, start, link, ends if is_whole else None)
    return ChainWalk(start, link, misfit, marked)


def _start(connection: Connection, log: str, ends: Ends, first: int) -> ChainLink | None:
    """The link behind which ``first`` must come, or what is left of the log; None if it is not there."""
    lowest = ends.last + 1 if ends.lowest is None else ends.lowest
    if first > max(lowest, 1):
        found = connection.execute(_HASH_AT, {"log": log, "position": first - 1}).fetchone()
        return ChainLink(first - 1, found[0]) if found else None
    if lowest <= 1:
        return ChainLink(0, GENESIS)
    attached = {name for (name,) in connection.execute(_ATTACHED)}
    link = ChainLink(0, GENESIS)
    for position, hash_, month in connection.execute(_ANCHORS, [log, lowest]):
        link = ChainLink(position, hash_ if position else GENESIS)
        # A month whose partition is still there was not detached: its events should be there as well.
        if partition_name(month) in attached:
            return link
    if ends.lowest is None and link.position and ends.head is not None:
        return ChainLink(ends.last, ends.head)
    return link


def rows_between(connection: Connection, log: str, first: int, last: int) -> Generator[bytes]:
    """The rows of a log from one position to another, both included, as binary COPY sends them."""
    with connection.cursor().copy(_ROWS, [log, first, last]) as copy:
        yield from received_rows(copy)


def _follow(
    log: str, start: ChainLink, rows: Iterator[bytes], upto: int, progress: Progress, mark: int | None
) -> tuple[ChainLink, bytes | None, bytes | None]:
    """The last link that fits, the hash at ``mark``, and the row that does not fit, if one was met."""
    layout, link, row = RowLayout(log), start, None
    marked = start.hash if start.position == mark else None
    while row is None and link.position < upto:
        goal = min(upto, link.position + REPORTED_EVERY)
        if mark is not None and link.position < mark:
            goal = min(goal, mark)
        link, row = layout.follow(link, rows, goal)
        progress(log, link.position - start.position, upto - start.position)
        if link.position == mark:
            marked = link.hash
        if link.position < goal:
            break
    return link, marked, row


def _look_beside(
    connection: Connection, log: str, start: ChainLink, link: ChainLink, ends: Ends | None
) -> TamperFinding | None:
    """Whether what is kept beside the events fits them; ``ends`` is None where ``link`` is not the last."""
    if ends and ends.highest is not None and ends.checkpoint is None:
        return TamperFinding(ends.last, "missing", "tickview.segments has no checkpoint of the archive for this log")
    if ends and ends.last and ends.head is None:
        return TamperFinding(ends.last, "missing", "tickview.logs does not know this log")
    if ends and ends.head is not None and ends.head != link.hash:
        return TamperFinding(ends.last, "changed", "tickview.logs has another hash for the last event")
    altered = connection.execute(_ALTERED_ANCHOR, [log, start.position, link.position]).fetchone()
    return TamperFinding(altered[0], "changed", "tickview.anchors has another hash for it") if altered else None
