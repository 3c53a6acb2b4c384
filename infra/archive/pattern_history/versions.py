"""Which version of ``pattern_history`` answers, and what becomes of those that no longer do."""

from psycopg import Connection
from psycopg.sql import SQL, Identifier

from domain.streams import MARKET_LOG
from infra.archive.archiver import ARCHIVE
from projections.pattern_history import NAME, TIMELINES

REMOVED_AT_ONCE = 5_000
"""Rows of each table that go in one transaction."""

_TABLES = ("pattern_events", *(f"{NAME}_{timeline}" for timeline in TIMELINES))

_LIVE = "SELECT version FROM tickview.live_versions WHERE name = %s"

# A log whose live segment is not there yet is as far as the archive.
_GO_LIVE = """
INSERT INTO tickview.live_versions AS live (name, version) VALUES (%(name)s, %(version)s)
ON CONFLICT (name) DO UPDATE SET version = excluded.version
WHERE live.version < excluded.version AND NOT EXISTS (
    SELECT FROM tickview.logs
    LEFT JOIN tickview.segments AS archived ON (archived.name, archived.log) = (%(archive)s, logs.log)
    LEFT JOIN tickview.segments AS former
        ON (former.name, former.version, former.log) = (%(name)s, live.version, logs.log)
    LEFT JOIN tickview.segments AS following
        ON (following.name, following.version, following.log) = (%(name)s, excluded.version, logs.log)
    WHERE logs.log LIKE %(logs)s
        AND coalesce(following.position, 0) < coalesce(former.position, archived.position, 0)
)
"""

_FORMER = """
SELECT version FROM tickview.segments
WHERE name = %(name)s AND version < (SELECT version FROM tickview.live_versions WHERE name = %(name)s)
GROUP BY version HAVING bool_and(leased_until <= now()) LIMIT 1
"""

_REMOVE = SQL("DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE version = %s LIMIT %s))")


def live_version(connection: Connection) -> int | None:
    """The version that answers; None before there is one."""
    found = connection.execute(_LIVE, [NAME]).fetchone()
    return found[0] if found else None


def switch_live_version(connection: Connection, version: int) -> bool:
    """Let ``version`` answer once it is as far as the version that does, on every log; returns whether it answers.

    Answers never go back in time by it. Where none answers yet, it is live at once; a lower version never is again.
    """
    values = {"name": NAME, "version": version, "archive": ARCHIVE, "logs": f"{MARKET_LOG}-%"}
    connection.execute(_GO_LIVE, values)
    return live_version(connection) == version


def remove_previous_version(connection: Connection, at_once: int = REMOVED_AT_ONCE) -> int:
    """Remove some rows of a version that came before the live one and that nobody works on; returns how many went.

    Of each table ``at_once`` at most.
    """
    former = connection.execute(_FORMER, {"name": NAME}).fetchone()
    if former is None:
        return 0
    [version] = former
    removed = 0
    for name in _TABLES:
        statement = _REMOVE.format(table=Identifier("tickview", name))
        removed += connection.execute(statement, [version, at_once]).rowcount
    if not removed:
        connection.execute("DELETE FROM tickview.segments WHERE name = %s AND version = %s", [NAME, version])
    return removed
