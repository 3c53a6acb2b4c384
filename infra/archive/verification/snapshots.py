"""Snapshots: connections that read one state of the database."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import Connection

from infra.postgres.database import Database
from infra.postgres.statements import load_statements

_statements = load_statements(__package__)
_BEGIN_SNAPSHOT = _statements["begin_snapshot"]
_DISABLE_SORT = _statements["disable_sort"]
_DISABLE_JIT = _statements["disable_jit"]


@contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """Lend a connection that reads one state of the database, and receives rows in index order without a sort."""
    with database.connection() as connection:
        connection.execute(_BEGIN_SNAPSHOT)
        connection.execute(_DISABLE_SORT)
        connection.execute(_DISABLE_JIT)
        yield connection
