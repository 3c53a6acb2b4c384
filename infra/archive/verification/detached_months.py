"""Detached months: the part of a log that is no longer in the archive although the archive had it."""

from datetime import date

from psycopg import Connection

from infra.archive.months import partition_name
from infra.archive.row_format import GENESIS
from infra.archive.verification.chains import ChainLink
from infra.archive.verification.tamper_detection import TamperFinding
from infra.postgres.statements import load_statements

_SELECT_ANCHORS = load_statements(__package__)["select_anchors"]


def find_detached_months(
    connection: Connection, log: str, start: ChainLink, first: int, since: date | None
) -> TamperFinding | None:
    """Find months that a log had and that are no longer attached, although nobody declared this.

    Args:
        connection: A connection that reads one state of the database.
        log: The log.
        start: The link before the first attached event.
        first: The first position to verify.
        since: The first month that the archive should have; None: every month.

    Returns:
        A finding about the first event of the first such month. None: the log begins where it should.
    """
    if start.position < first or start.hash == GENESIS:  # A log may begin behind position 1, with a new chain.
        return None
    # The anchor of a month is the last event before it. A later anchor is in a month that is attached.
    anchors = connection.execute(_SELECT_ANCHORS, [log, start.position]).fetchall()
    missing = [(position, month) for position, _, month in anchors if since is None or month >= since]
    if anchors and not missing:
        return None
    names = ", ".join(partition_name(month) for _, month in missing) or "of unknown names"
    detail = (
        f"the events up to {start.position} are in detached months ({names}). Attach these months. If they were "
        "detached on purpose, set TICKVIEW_ARCHIVE_SINCE to the first month that the archive should have"
    )
    position = missing[0][0] + 1 if missing else 1
    return TamperFinding(max(first, position), "missing", detail)
