"""The schema ``tickview`` of PostgreSQL and its numbered migrations, each of which is applied once."""

from importlib.resources import files
from typing import LiteralString, NamedTuple

import structlog
from psycopg import Connection

from infra.postgres.statements import load_statements
from infra.processes.errors import StartupError

logger = structlog.get_logger()

OLDEST_VERSION = 14
"""Oldest major version of PostgreSQL that TickView supports."""

SCHEMA_LOCK = int.from_bytes(b"tickview")
"""Number of the advisory lock under which tables are created."""

_statements = load_statements(__package__)
_LOCK_SCHEMA = _statements["lock_schema"]
_CREATE_MIGRATIONS_TABLE = _statements["create_migrations_table"]
_HAS_MIGRATIONS_TABLE = _statements["has_migrations_table"]
IS_STANDBY = _statements["is_standby"]
_SELECT_APPLIED_MIGRATIONS = _statements["select_applied_migrations"]
_INSERT_APPLIED_MIGRATION = _statements["insert_applied_migration"]


class Migration(NamedTuple):
    """A numbered step of the schema."""

    number: int
    name: str
    sql: LiteralString


def migrations() -> list[Migration]:
    """Return every migration of this release in the order of the numbers."""
    steps = []
    for file in (files(__package__) / "migrations").iterdir():
        number, _, name = file.name.removesuffix(".sql").partition("_")
        steps.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return sorted(steps)


def migrate(connection: Connection) -> list[Migration]:
    """Apply the migrations that the database does not have yet, in one transaction.

    A role that may only read the schema can call this function once the schema is complete.

    Returns:
        The migrations that were applied now.

    Raises:
        StartupError: The server is too old, or the schema is of a newer release.
    """
    if connection.info.server_version < OLDEST_VERSION * 10_000:
        version = connection.info.parameter_status("server_version")
        raise StartupError(f"PostgreSQL is version {version}. Use version {OLDEST_VERSION} or later.")
    with connection.transaction():
        pending = pending_migrations(connection)
        if not pending:
            return []
        [[is_standby]] = connection.execute(IS_STANDBY)
        if is_standby:
            raise StartupError(
                f"This PostgreSQL server is a standby, and lacks migration {pending[0].number} of TickView's schema. "
                "Start `tickview archive` with the primary server first."
            )
        lock_schema(connection)
        connection.execute(_CREATE_MIGRATIONS_TABLE)
        # Another process may have applied migrations while this process waited for the lock.
        pending = pending_migrations(connection)
        for migration in pending:
            connection.execute(migration.sql)
            connection.execute(_INSERT_APPLIED_MIGRATION, [migration.number, migration.name])
            logger.info("migration applied", number=migration.number, name=migration.name)
    return pending


def lock_schema(connection: Connection) -> None:
    """Wait until no other transaction creates tables, and exclude others until this transaction ends."""
    connection.execute(_LOCK_SCHEMA, [SCHEMA_LOCK])


def pending_migrations(connection: Connection) -> list[Migration]:
    """Return the migrations that the database does not have yet.

    Raises:
        StartupError: The schema is of a newer release.
    """
    known = migrations()
    applied: set[int] = set()
    [[has_table]] = connection.execute(_HAS_MIGRATIONS_TABLE)
    if has_table:
        applied = {number for (number,) in connection.execute(_SELECT_APPLIED_MIGRATIONS)}
    newest = known[-1].number
    if max(applied, default=0) > newest:
        raise StartupError(
            f"The archive's schema is at migration {max(applied)}, but this release of TickView knows migrations only "
            f"up to {newest}. Use the release that created the schema, or a later release."
        )
    return [migration for migration in known if migration.number not in applied]
