"""From where to where in the archive: positions or times, as people write them, and what they are in each log."""

from datetime import UTC, datetime
from typing import NamedTuple

from psycopg import Connection

RangeEnd = int | datetime
"""A position, or a moment by the time of recording."""

LAST_POSITION = 2**63 - 1

# Along a log neither positions nor times of recording ever decrease: a moment is a place in it.
_FIRST_SINCE = """
SELECT position FROM tickview.events WHERE log = %s AND recorded_at >= %s ORDER BY recorded_at, position LIMIT 1
"""
_LAST_BEFORE = """
SELECT position FROM tickview.events WHERE log = %s AND recorded_at < %s
ORDER BY recorded_at DESC, position DESC LIMIT 1
"""


class ArchiveRange(NamedTuple):
    """A range of the archive. A position is one of each log, and included at both ends; None is the log's own end."""

    start: RangeEnd | None = None
    """A moment is included."""
    end: RangeEnd | None = None
    """A moment is excluded."""


def parse_range_end(text: str) -> RangeEnd:
    """A position (a whole number from 1) or a moment (ISO 8601; UTC where it names no zone).

    Raises ValueError, saying what is wrong.
    """
    if text.isdecimal():
        position = int(text)
        if not 1 <= position <= LAST_POSITION:
            raise ValueError(f"{text} is no position: positions go from 1 to {LAST_POSITION}")
        return position
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is neither a position nor a time in ISO 8601") from error


def check_range(bounds: ArchiveRange) -> None:
    """Raises ValueError for a range that ends before it begins."""
    start, end = bounds
    if (isinstance(start, int) and isinstance(end, int) and start > end) or (
        isinstance(start, datetime) and isinstance(end, datetime) and start > end
    ):
        raise ValueError(f"the range ends at {end}, before it begins at {start}")


def first_position(connection: Connection, log: str, start: RangeEnd | None) -> int | None:
    """The first position of the range in a log; None where the log has none since."""
    if not isinstance(start, datetime):
        return start or 1
    found = connection.execute(_FIRST_SINCE, [log, start]).fetchone()
    return found[0] if found else None


def last_position(connection: Connection, log: str, end: RangeEnd | None) -> int:
    """The last position of the range in a log, 0 where the log has none before its end."""
    if not isinstance(end, datetime):
        return LAST_POSITION if end is None else end
    found = connection.execute(_LAST_BEFORE, [log, end]).fetchone()
    return found[0] if found else 0


def iso_milliseconds(moment: datetime) -> str:
    """The moment in UTC, to the millisecond, in ISO 8601."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
