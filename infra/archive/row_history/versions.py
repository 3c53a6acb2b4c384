"""Versions of a history: the switch to a new live version, and the removal of a previous one."""

from psycopg import Connection
from psycopg.sql import SQL

from domain.streams import MARKET_LOG
from infra.archive.archiver import ARCHIVE
from infra.archive.row_history.tables import HistoryTables
from infra.postgres.statements import load_statements

REMOVE_BATCH = 5_000
"""Highest number of rows of each table that one transaction removes."""

_statements = load_statements(__package__)
_SELECT_LIVE_VERSION = _statements["select_live_version"]
_SWITCH_LIVE_VERSION = _statements["switch_live_version"]
_SELECT_PREVIOUS_VERSION = _statements["select_previous_version"]
_DELETE_VERSION_ROWS = SQL(_statements["delete_version_rows"])
_RESTART_SEGMENTS = _statements["restart_segments"]
_MAKE_VERSION_LIVE = _statements["make_version_live"]
_DELETE_VERSION_EVENTS = SQL(_statements["delete_version_events"])
_DELETE_VERSION_STATES = SQL(_statements["delete_version_states"])
_DELETE_VERSION_SEGMENTS = _statements["delete_version_segments"]


def live_version(connection: Connection, tables: HistoryTables) -> int | None:
    """Return the live version, or None before the first switch."""
    row = connection.execute(_SELECT_LIVE_VERSION, [tables.name]).fetchone()
    return row[0] if row else None


def switch_live_version(connection: Connection, tables: HistoryTables, version: int) -> bool:
    """Make ``version`` live if it has folded every log as far as the live version.

    Answers therefore never lose events by a switch. The first version goes live at once. A version below the live one
    never goes live.

    Returns:
        Whether ``version`` is live now.
    """
    values = {"name": tables.name, "version": version, "archive": ARCHIVE, "logs": f"{MARKET_LOG}-%"}
    connection.execute(_SWITCH_LIVE_VERSION, values)
    return live_version(connection, tables) == version


def remove_previous_version(connection: Connection, tables: HistoryTables, limit: int = REMOVE_BATCH) -> int:
    """Remove rows of a version below the live one that no worker folds any more.

    Args:
        connection: A connection in a transaction.
        tables: The tables of the history.
        limit: Highest number of rows to remove from each table.

    Returns:
        The number of removed rows.
    """
    row = connection.execute(_SELECT_PREVIOUS_VERSION, {"name": tables.name}).fetchone()
    if row is None:
        return 0
    [version] = row
    removed = 0
    for table in (tables.events, tables.history):
        removed += connection.execute(_DELETE_VERSION_ROWS.format(table=table), [version, limit]).rowcount
    if not removed:
        connection.execute(_DELETE_VERSION_SEGMENTS, [tables.name, version])
    return removed


def restart_version(connection: Connection, tables: HistoryTables, version: int) -> int:
    """Remove all rows of a version and let archivers fold it again from the first event. The version is live then.

    Until the archivers have caught up, queries as of a moment wait for them.

    Args:
        connection: A connection in a transaction.
        tables: The tables of the history.
        version: The version.

    Returns:
        The number of removed states. A state that is on both timelines counts twice.
    """
    tables.create(connection)
    connection.execute(_RESTART_SEGMENTS, [tables.name, version])
    connection.execute(_MAKE_VERSION_LIVE, [tables.name, version])
    connection.execute(_DELETE_VERSION_EVENTS.format(events=tables.events), [version])
    [[states]] = connection.execute(_DELETE_VERSION_STATES.format(history=tables.history), [version])
    return int(states)
