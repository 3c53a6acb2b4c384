"""Parsing of catalogue rows: from rows of a file or table to symbols and universes, or to refusals with reasons."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from domain.wire.refusal import RefusedError, preview
from domain.wire.values import Field, number, optional, required, symbol, text
from infra.catalogue.errors import CatalogueError
from projections.symbols import DETAILS

MAX_SYMBOLS = 100_000
"""Highest number of symbols. Each API process holds all of them in memory."""

MAX_UNIVERSES = 1_000
"""Highest number of universes."""

MAX_MEMBERS = 20_000
"""Highest number of symbols in one universe."""

MAX_TOTAL_MEMBERS = 500_000
"""Highest number of symbols in all universes together. Each API process holds all of them in memory."""

MAX_NAME_LENGTH = 200
"""Highest number of characters of a name."""

MAX_DESCRIPTION_LENGTH = 1_000
"""Highest number of characters of a description."""

_KEY = re.compile("[A-Za-z0-9](?:[A-Za-z0-9._:& -]{0,62}[A-Za-z0-9._:&-])?")
_SEPARATORS = re.compile(r"[\s,;]+")
_FLAGS = {"true": True, "t": True, "yes": True, "y": True, "1": True} | {
    "false": False,
    "f": False,
    "no": False,
    "n": False,
    "0": False,
}

Rows = Iterable[tuple[str, Mapping[str, Any]]]
"""The place of each row in its source, as text, and its values by column."""

Columns = Mapping[Any, str]
"""Column by field, for columns that have other names than their fields."""


class SymbolEntry(NamedTuple):
    """A symbol of the source."""

    symbol: str
    active: bool
    details: Mapping[str, Any]
    """The value of each field of ``DETAILS``. None: the source has no value."""


UNIVERSE_FIELDS = ("key", "name", "description", "symbols", "category", "criteria")
"""The fields of a universe. The first one identifies it."""


class UniverseEntry(NamedTuple):
    """A universe of the source."""

    key: str
    name: str | None
    description: str | None
    symbols: list[str]
    """The symbols, in order and without duplicates."""
    category: str | None = None
    criteria: str | None = None


class RefusedRow(NamedTuple):
    """A row that cannot be read."""

    where: str
    """The place of the row in its source."""
    subject: str | None
    """The symbol or key of the row, if it can be read."""
    reason: str


Entry = TypeVar("Entry", SymbolEntry, UniverseEntry)


class SourceRows(NamedTuple, Generic[Entry]):
    """The rows of a source: the entries by symbol or key, and the refused rows."""

    entries: dict[str, Entry]
    refused: list[RefusedRow]


class _EntryFormat(NamedTuple, Generic[Entry]):
    """The conversion of rows to entries."""

    identity: str
    """The field that identifies a row."""
    read_identity: Callable[[Field], str]
    read_entry: Callable[[Mapping[str, Any], str], Entry]
    """Reads the entry from the row and its identity."""
    max_rows: int


def check_columns(source: str, existing: Collection[str], identity: str, columns: Columns) -> None:
    """Check that a source has the identifying column and every column that the settings name.

    Raises:
        CatalogueError: A column is missing.
    """
    for field, column in {identity: identity, **columns}.items():
        if column not in existing:
            kind = "SYMBOL" if identity == "symbol" else "UNIVERSE"
            raise CatalogueError(
                f"{source} has no column {column} for {field}. It has {', '.join(sorted(existing)) or 'no columns'}. "
                f"Add the column, or name another column in TICKVIEW_CATALOGUE_{kind}_COLUMNS."
            )


def read_symbols(rows: Rows, columns: Columns) -> SourceRows[SymbolEntry]:
    """Read symbols.

    Raises:
        CatalogueError: There are more than ``MAX_SYMBOLS`` rows.
    """

    def read_entry(row: Mapping[str, Any], ticker: str) -> SymbolEntry:
        details = {name: optional(_DETAIL_READERS.get(name, _name), _field(row, columns, name)) for name in DETAILS}
        active = optional(_flag, _field(row, columns, "active"))
        return SymbolEntry(ticker, active is not False, details)

    return _read(rows, columns, _EntryFormat("symbol", symbol, read_entry, MAX_SYMBOLS))


def read_universes(rows: Rows, columns: Columns) -> SourceRows[UniverseEntry]:
    """Read universes.

    Raises:
        CatalogueError: There are more than ``MAX_UNIVERSES`` rows or ``MAX_TOTAL_MEMBERS`` symbols.
    """

    def read_entry(row: Mapping[str, Any], key: str) -> UniverseEntry:
        name = optional(_name, _field(row, columns, "name"))
        description = optional(_description, _field(row, columns, "description"))
        symbols = _members(required(_field(row, columns, "symbols")))
        category = optional(_name, _field(row, columns, "category"))
        criteria = optional(_description, _field(row, columns, "criteria"))
        return UniverseEntry(key, name, description, symbols, category, criteria)

    universes = _read(rows, columns, _EntryFormat("key", _key, read_entry, MAX_UNIVERSES))
    if sum(len(universe.symbols) for universe in universes.entries.values()) > MAX_TOTAL_MEMBERS:
        raise CatalogueError(
            f"All universes together have more than {MAX_TOTAL_MEMBERS:,} symbols, the limit for a catalogue."
        )
    return universes


def _read(rows: Rows, columns: Columns, entry_format: _EntryFormat[Entry]) -> SourceRows[Entry]:
    result: SourceRows[Entry] = SourceRows({}, [])
    places: dict[str, str] = {}
    for count, (where, row) in enumerate(rows, 1):
        if count > entry_format.max_rows:
            raise CatalogueError(f"The source has more than {entry_format.max_rows:,} rows, the limit for a catalogue.")
        subject = None
        try:
            subject = entry_format.read_identity(required(_field(row, columns, entry_format.identity)))
            if first := places.get(subject):
                result.refused.append(RefusedRow(where, subject, f"{subject} is already defined at {first}"))
            else:
                places[subject] = where
                result.entries[subject] = entry_format.read_entry(row, subject)
        except RefusedError as error:
            result.refused.append(RefusedRow(where, subject, str(error)))
    return result


def _field(row: Mapping[str, Any], columns: Columns, name: str) -> Field:
    """Return a field under the name of its column, which is the name that a refusal should show."""
    column = columns.get(name, name)
    value = row.get(column)
    return column, None if isinstance(value, str) and not value.strip() else value


def _name(field: Field) -> str:
    return text(field, MAX_NAME_LENGTH)


def _description(field: Field) -> str:
    return text(field, MAX_DESCRIPTION_LENGTH)


def _quantity(field: Field) -> float:
    value = field[1]
    return number((field[0], value if isinstance(value, str | int | float) else str(value)), low=0)


_DETAIL_READERS: Mapping[str, Callable[[Field], Any]] = dict.fromkeys(
    ("market_cap", "weighted_shares_outstanding"), _quantity
)
"""Readers of the details that are not texts."""


def _flag(field: Field) -> bool:
    flag = _FLAGS.get(str(field[1]).strip().lower())
    if flag is None:
        raise RefusedError("wrong-type", f"{field[0]} is {preview(field[1])}: expected true or false")
    return flag


def _key(field: Field) -> str:
    key = text(field)
    if not _KEY.fullmatch(key):
        raise RefusedError(
            "not-a-name",
            f"{field[0]} is {preview(field[1])}: expected 1 to 64 letters, digits, blanks or . _ : & -, "
            "a letter or digit first",
        )
    return key


def _members(field: Field) -> list[str]:
    """Read a list, a JSON array as text, or symbols separated by spaces, commas or semicolons."""
    name, value = field
    if isinstance(value, str):
        value = _members_of_text(name, value.strip())
    if not isinstance(value, list):
        raise RefusedError("wrong-type", f"{name} is {preview(value)}, which is not a list of symbols")
    if len(value) > MAX_MEMBERS:
        raise RefusedError("too-large", f"{name} has {len(value):,} symbols: expected at most {MAX_MEMBERS:,}")
    return list(dict.fromkeys(_symbols(name, value)))


def _members_of_text(name: str, members: str) -> Any:
    if not members.startswith("["):
        return [part for part in _SEPARATORS.split(members) if part]
    try:
        return orjson.loads(members)
    except orjson.JSONDecodeError as error:
        raise RefusedError("not-json", f"{name} begins like a JSON array but is not valid JSON: {error}") from error


def _symbols(name: str, members: list[Any]) -> Iterator[str]:
    for place, member in enumerate(members):
        yield symbol((f"{name}[{place}]", member))
