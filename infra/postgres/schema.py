"""The schema, brought up to date by numbered migrations, each once and whole, whoever comes first."""

from importlib.resources import files
from typing import LiteralString, NamedTuple

import structlog
from psycopg import Connection

from infra.processes.errors import StartupError

logger = structlog.get_logger()

OLDEST_VERSION = 14
"""Of PostgreSQL."""

SCHEMA_LOCK = int.from_bytes(b"tickview")
"""Of the advisory lock."""

_PREPARE = """
CREATE SCHEMA IF NOT EXISTS tickview;
CREATE TABLE IF NOT EXISTS tickview.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


class Migration(NamedTuple):
    """One step of the schema."""

    number: int
    name: str
    sql: LiteralString


def migrations() -> list[Migration]:
    """Every migration of this release, in order."""
    found = []
    for file in (files(__package__) / "migrations").iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("_")
        found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return sorted(found)


def migrate(connection: Connection) -> list[Migration]:
    """Apply what is lacking, in one transaction, and return it; a role that may only read finds nothing lacking.

    Raises StartupError for a server that is too old, and for a schema of a newer release, which means who knows what.
    """
    if connection.info.server_version < OLDEST_VERSION * 10_000:
        version = connection.info.parameter_status("server_version")
        raise StartupError(f"PostgreSQL is version {version}: use version {OLDEST_VERSION} or later")
    with connection.transaction():
        if not _lacking(connection):
            return []
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [SCHEMA_LOCK])
        connection.execute(_PREPARE)
        lacking = _lacking(connection)
        for migration in lacking:
            connection.execute(migration.sql)
            connection.execute(
                "INSERT INTO tickview.migrations (number, name) VALUES (%s, %s)", [migration.number, migration.name]
            )
            logger.info("migration applied", number=migration.number, name=migration.name)
    return lacking


def _lacking(connection: Connection) -> list[Migration]:
    known = migrations()
    applied: set[int] = set()
    [[prepared]] = connection.execute("SELECT to_regclass('tickview.migrations') IS NOT NULL")
    if prepared:
        applied = {number for (number,) in connection.execute("SELECT number FROM tickview.migrations")}
    newest = known[-1].number
    if max(applied, default=0) > newest:
        raise StartupError(
            f"the archive's schema is at migration {max(applied)}, this release knows it up to {newest}: "
            "use the release that made it, or a later one"
        )
    return [migration for migration in known if migration.number not in applied]
