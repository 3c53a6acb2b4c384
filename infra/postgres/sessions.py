"""Sessions of PostgreSQL: their settings are made and checked here, whatever the server, database or role prescribe.

The sessions work through PgBouncer in transaction mode, too: they use no prepared statements, and the results
of no query depend on a setting that PgBouncer does not restore (https://www.pgbouncer.org/config.html#track_extra_parameters).
"""

from psycopg import Connection, IsolationLevel, connect
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.postgres.statements import load_statements
from infra.processes.errors import StartupError

CONNECT_SECONDS = 3
"""Seconds that the server may take to accept a new connection."""

CONNECTION_SETTINGS: dict[str, str | int | None] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "client_encoding": "UTF8",
}
"""Default settings of every connection. Texts are UTF-8. A host that disappears is noticed within a minute instead of
two hours."""

ENCODING = "UTF8"
"""The encoding of a database that can store every event."""

_statements = load_statements(__package__)
_SET_SESSION = _statements["set_session"]


def complete_dsn(dsn: str) -> str:
    """Add the default settings to a DSN, which may override them. Raises psycopg.Error."""
    return make_conninfo(dsn, **{**CONNECTION_SETTINGS, **conninfo_to_dict(dsn)})


def open_session(dsn: str) -> Connection:
    """Open a connection with the settings of TickView. Raises psycopg.Error."""
    connection = connect(dsn)
    try:
        configure_session(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def configure_session(connection: Connection) -> None:
    """Make the settings of a new connection.

    Raises:
        StartupError: The database has an encoding that cannot store every event.
        psycopg.Error: The server ended the connection.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in (ENCODING, None):
        raise StartupError(
            f"The PostgreSQL database has the encoding {encoding}, which cannot store every character of an event: "
            "create a database with ENCODING 'UTF8' TEMPLATE template0."
        )
    connection.prepare_threshold = None
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    connection.execute(_SET_SESSION)
    connection.commit()
