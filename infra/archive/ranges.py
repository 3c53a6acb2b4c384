"""Ranges of the archive, written as positions or times, and the positions of a log that a range covers."""

from datetime import UTC, datetime
from typing import NamedTuple

from psycopg import Connection

from infra.postgres.statements import load_statements

RangeEnd = int | datetime
"""A position of each log, or a time of recording."""

LAST_POSITION = 2**63 - 1
"""Highest position that PostgreSQL can store."""

_statements = load_statements(__package__)
_SELECT_FIRST_POSITION_SINCE = _statements["select_first_position_since"]
_SELECT_LAST_POSITION_BEFORE = _statements["select_last_position_before"]


class ArchiveRange(NamedTuple):
    """A range of the archive, the same for each log. None is the beginning or the end of the log."""

    start: RangeEnd | None = None
    """The first position or moment, included."""
    end: RangeEnd | None = None
    """The last position, included; or a moment, excluded."""


def parse_range_end(text: str) -> RangeEnd:
    """Parse an end of a range: a position (from 1), or a time in ISO 8601 (UTC if it names no zone).

    Raises:
        ValueError: The text is neither. The message gives the reason.
    """
    if text.isdecimal():
        position = int(text)
        if not 1 <= position <= LAST_POSITION:
            raise ValueError(f"{text} is not a position. Positions go from 1 to {LAST_POSITION}.")
        return position
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is neither a position nor a time in ISO 8601") from error


WHOLE_ARCHIVE = ArchiveRange()


def check_range(archive_range: ArchiveRange) -> None:
    """Validate a range. Raises ValueError if it ends before it begins."""
    start, end = archive_range
    if (isinstance(start, int) and isinstance(end, int) and start > end) or (
        isinstance(start, datetime) and isinstance(end, datetime) and start > end
    ):
        raise ValueError(f"The range ends at {end}, before it begins at {start}.")


def first_position(connection: Connection, log: str, start: RangeEnd | None) -> int | None:
    """Return the first position of a log in a range. None if no event was recorded since its start."""
    if not isinstance(start, datetime):
        return start or 1
    row = connection.execute(_SELECT_FIRST_POSITION_SINCE, [log, start]).fetchone()
    return row[0] if row else None


def last_position(connection: Connection, log: str, end: RangeEnd | None) -> int:
    """Return the last position of a log in a range. 0 if no event was recorded before its end."""
    if not isinstance(end, datetime):
        return LAST_POSITION if end is None else end
    row = connection.execute(_SELECT_LAST_POSITION_BEFORE, [log, end]).fetchone()
    return row[0] if row else 0


def iso_milliseconds(moment: datetime) -> str:
    """Format a moment in ISO 8601, in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
