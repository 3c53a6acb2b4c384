"""The tables of a history, derived from the columns of its read model.

The name of a column of values begins with its use: ``number_confidence`` for range filters and sorts, ``text_symbol``
for sorts, ``group_symbol`` for filters by value. If the columns of a read model change, its tables get further columns.
The others stay, and rows of a version that does not use a column have no value in it.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, LiteralString, NamedTuple

from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier

from infra.postgres.schema import lock_schema
from infra.postgres.statements import load_statements
from projections.columns import RowColumn
from projections.queries import AnyProjection

_SCHEMA = "tickview"

NUMBER: LiteralString = "double precision"
"""The type of numbers."""

TEXT: LiteralString = 'text COLLATE "C"'
"""The type of texts. The order of the rows must not depend on the locale of the database."""

_FORMER_COLUMN = "timeline"
"""A column of the tables of former releases, which had a row for each timeline of a state."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_statements = load_statements(__package__)
_SELECT_PARTS = _statements["select_parts"]
_CREATE_TABLES = SQL(_statements["create_tables"])
_DROP_TABLES = SQL(_statements["drop_tables"])
_ADD_COLUMN = SQL(_statements["add_column"])
_CREATE_GROUP_INDEX = SQL(_statements["create_group_index"])
_COPY_STATES = SQL(_statements["copy_states_in"])


class ValueColumn(NamedTuple):
    """A column of a history with values of the rows."""

    name: str
    type: LiteralString
    value_of: Callable[[Any], Any]
    """Returns the value of a row. None: the row has no value."""
    index_name: str | None = None
    """The name of the index by which filters find the rows with a value. None: the column has no index."""


class HistoryTables:
    """The tables of the history of one read model.

    Attributes:
        name: The name of the history in ``tickview.segments`` and ``tickview.live_versions``.
        history: The table of the states.
        events: The table of the events of each unit.
        columns: The columns of ``history`` with values of the rows.
        copy_states: The statement that stores binary rows of states (see ``state_rows``).
    """

    def __init__(self, projection: AnyProjection) -> None:
        assert projection.history is not None
        self.name = projection.history
        self.history = Identifier(_SCHEMA, self.name)
        self.events = Identifier(_SCHEMA, f"{projection.name}_events")
        columns = [column for each in projection.columns.values() for column in _value_columns(self.name, each)]
        # PostgreSQL reads values of fixed length faster if they are before those of variable length.
        self.columns = sorted(columns, key=lambda column: column.type != NUMBER)
        values = Composed([SQL("{}, ").format(Identifier(column.name)) for column in self.columns])
        self.copy_states = _COPY_STATES.format(history=self.history, values=values)

    def create(self, connection: Connection) -> None:
        """Create the tables, or add the columns that they lack. Tables of a former release are dropped first.

        A role that may only read can call this method once the tables are complete.
        """
        present = self._parts(connection)
        is_former = _FORMER_COLUMN in present
        if present and not is_former and not self._missing_columns(present):
            return
        lock_schema(connection)
        if is_former and _FORMER_COLUMN in self._parts(connection):
            connection.execute(_DROP_TABLES.format(history=self.history, events=self.events, name=self.name))
        definitions = [SQL("{} {}, ").format(Identifier(column.name), SQL(column.type)) for column in self.columns]
        connection.execute(
            _CREATE_TABLES.format(
                history=self.history,
                values=Composed(definitions),
                events=self.events,
                recorded_index=Identifier(f"{self.name}_recorded"),
                valid_index=Identifier(f"{self.name}_valid"),
                key_index=Identifier(f"{self.name}_key"),
            )
        )
        # Another process may have added columns while this process waited for the lock.
        for column in self._missing_columns(self._parts(connection)):
            connection.execute(
                _ADD_COLUMN.format(history=self.history, column=Identifier(column.name), type=SQL(column.type))
            )

    def create_indexes(self, connection: Connection) -> None:
        """Create the indexes that the tables lack, in a transaction of its own.

        On large tables this takes minutes. Queries can read the tables meanwhile, but nothing can be folded.
        """
        present = self._parts(connection)
        for column in self.columns:
            if column.index_name and column.index_name not in present:
                index, name = Identifier(column.index_name), Identifier(column.name)
                connection.execute(_CREATE_GROUP_INDEX.format(index=index, history=self.history, column=name))

    def _parts(self, connection: Connection) -> set[str]:
        """Return the names of the columns and indexes of the table of the states. Empty: it does not exist."""
        return {name for (name,) in connection.execute(_SELECT_PARTS, [_SCHEMA, self.name])}

    def _missing_columns(self, present: set[str]) -> list[ValueColumn]:
        return [column for column in self.columns if column.name not in present]


def number_column(column: str) -> str:
    """Return the name of the column with the numbers of a column of the row."""
    return f"number_{column}"


def text_column(column: str) -> str:
    """Return the name of the column with the texts of a column of the row."""
    return f"text_{column}"


def group_column(column: str) -> str:
    """Return the name of the column with the texts by which filters select values of a column of the row."""
    return f"group_{column}"


def _value_columns(history: str, column: RowColumn) -> Iterator[ValueColumn]:
    if column.has_scores:
        yield ValueColumn(number_column(column.name), NUMBER, attrgetter(column.name))
    if column.has_sorted_texts:
        yield ValueColumn(text_column(column.name), TEXT, _storing(attrgetter(column.name)))
    if column.equality:
        # Texts without sort usually have few values. PostgreSQL would combine their index with that of the span, which
        # is slower than the span alone.
        index = f"{history}_{column.name}=" if column.has_sorted_texts else None
        yield ValueColumn(group_column(column.name), TEXT, _storing(column.group_of()), index)


def _storing(text_of: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    def stored(row: Any) -> str | None:
        text = text_of(row)
        return None if text is None else storable(text)

    return stored


def storable(text: str) -> str:
    """Return a text without NUL, which PostgreSQL does not store. Different texts stay different and in order."""
    if "\0" not in text and "\1" not in text:
        return text
    return text.replace("\1", "\1\2").replace("\0", "\1\1")


def original(text: str) -> str:
    """Return the text from which ``storable`` made this text."""
    return text.replace("\1\1", "\0").replace("\1\2", "\1")


def to_datetime(moment: int) -> datetime:
    """Convert microseconds since the epoch to a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=moment)
