"""Partitions of the archived events by month of recording, in UTC."""

from datetime import UTC, date, datetime

from psycopg import Connection
from psycopg.sql import SQL, Identifier, Literal

from infra.postgres.schema import lock_schema
from infra.postgres.statements import load_statements

_statements = load_statements(__package__)
_HAS_TABLE = _statements["has_table"]
_SELECT_ATTACHED_PARTITIONS = _statements["select_attached_partitions"]
_CREATE_MONTH_TABLE = SQL(_statements["create_month_table"])
_ATTACH_MONTH_TABLE = SQL(_statements["attach_month_table"])


def create_month_partition(connection: Connection, month: datetime) -> None:
    """Create the partition of the month that begins at ``month`` unless it exists. Readers are not blocked."""
    name = partition_name(month)
    lock_schema(connection)
    [[exists]] = connection.execute(_HAS_TABLE, [f"tickview.{name}"])
    if exists:
        return
    table = Identifier("tickview", name)
    connection.execute(_CREATE_MONTH_TABLE.format(table=table))
    connection.execute(_ATTACH_MONTH_TABLE.format(table=table, start=Literal(month), end=Literal(next_month(month))))


def attached_partitions(connection: Connection) -> set[str]:
    """Return the names of the tables of all months that are attached."""
    return {name for (name,) in connection.execute(_SELECT_ATTACHED_PARTITIONS)}


def partition_name(month: date) -> str:
    """Return the name of the table that holds the events of a month."""
    return f"events_{month:%Y_%m}"


def start_of_month(recorded_at: float) -> datetime:
    """Return the first moment of the month of a time in epoch seconds."""
    return datetime.fromtimestamp(recorded_at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(month: datetime) -> datetime:
    """Return the first moment of the following month."""
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
