"""Sessions of PostgreSQL: their settings are made and checked here, whatever the server, database or role prescribe.

The sessions work through PgBouncer in transaction mode, too: they use no prepared statements, and the results
of no query depend on a setting that PgBouncer does not restore (https://www.pgbouncer.org/config.html#track_extra_parameters).
"""

from psycopg import Connection, IsolationLevel
from psycopg.abc import ConnDict
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
    "tcp_user_timeout": 30_000,
    "client_encoding": "UTF8",
}
"""Default settings of every connection. Texts are UTF-8. A host that disappears is noticed within a minute instead of
two hours or, if it owes an answer to what was sent to it, a quarter of an hour."""

DEFAULT_PORT = 5432

ENCODING = "UTF8"
"""The encoding of a database that can store every event."""

_statements = load_statements(__package__)
_SET_SESSION = _statements["set_session"]


def complete_dsn(dsn: str, target: str) -> str:
    """Add the default settings to a DSN, which may override them.

    Args:
        dsn: The DSN.
        target: The default of ``target_session_attrs`` if the DSN names several hosts.

    Raises:
        psycopg.Error: The DSN is malformed.
    """
    given = conninfo_to_dict(dsn)
    defaults = dict(CONNECTION_SETTINGS)
    if len(_hosts(given)) > 1:
        defaults["target_session_attrs"] = target
    return make_conninfo(dsn, **{**defaults, **given})


def count_attempts(dsn: str) -> int:
    """Return how many hosts an attempt to connect may have to wait for."""
    parts = conninfo_to_dict(dsn)
    rounds = 2 if parts.get("target_session_attrs") == "prefer-standby" else 1
    return len(_hosts(parts)) * rounds


def with_first_host(dsn: str, host: str, port: int) -> str:
    """Return a DSN whose first host is the one with this name and port. The order of the others stays."""
    parts = conninfo_to_dict(dsn)
    hosts = _hosts(parts)
    if len(hosts) == 1 or "hostaddr" in parts:
        return dsn
    ports = str(parts.get("port") or "").split(",")
    places = list(zip(hosts, ports * len(hosts) if len(ports) == 1 else ports, strict=True))
    places.sort(key=lambda place: (place[0], int(place[1] or DEFAULT_PORT)) != (host, port))
    return make_conninfo(dsn, host=",".join(name for name, _ in places), port=",".join(each for _, each in places))


def _hosts(parts: ConnDict) -> list[str]:
    return str(parts.get("host") or "").split(",")


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
