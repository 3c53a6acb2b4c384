"""From rows as a file or a table has them to symbols and universes, or the reason why a row is none."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from domain.wire.refusal import RefusedError, preview
from domain.wire.values import Field, number, optional, required, symbol, text
from infra.processes.errors import StartupError
from projections.symbols import DETAILS

MOST_SYMBOLS = 100_000
"""Of a catalogue; more would not fit into every API process."""

MOST_UNIVERSES = 1_000
MOST_MEMBERS = 20_000
"""Symbols of one universe."""

MOST_MEMBERS_IN_ALL = 500_000
"""Symbols of all universes added up: what an API process holds of them is bounded, too."""

LONGEST_NAME = 200

_KEY = re.compile("[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_SEPARATORS = re.compile(r"[\s,;]+")
_WORDS = {"true": True, "t": True, "yes": True, "y": True, "1": True} | {
    "false": False,
    "f": False,
    "no": False,
    "n": False,
    "0": False,
}

Rows = Iterable[tuple[str, Mapping[str, Any]]]
"""Where each row stands, for people to read, and its values by column."""

Columns = Mapping[Any, str]
"""Field -> the column that has it, where that has another name."""


class SymbolEntry(NamedTuple):
    """A symbol as the source has it."""

    symbol: str
    active: bool
    details: Mapping[str, Any]
    """What ``DETAILS`` names; None where nothing is said."""


class UniverseEntry(NamedTuple):
    """A universe as the source has it."""

    key: str
    name: str | None
    description: str | None
    symbols: list[str]
    """In order, each once."""


class RefusedRow(NamedTuple):
    """A row that cannot be read."""

    where: str
    subject: str | None
    """The symbol or key that it is about, if that can be read."""
    reason: str


Entry = TypeVar("Entry", SymbolEntry, UniverseEntry)


class SourceRows(NamedTuple, Generic[Entry]):
    """What a source has: entries by symbol or key, and the rows that are refused."""

    entries: dict[str, Entry]
    refused: list[RefusedRow]


def check_columns(source: str, known: Collection[str], identity: str, columns: Columns) -> None:
    """See that a source has every column that was given a name, and the one that tells its rows apart.

    Raises StartupError. Other columns may be missing.
    """
    for field, column in {identity: identity, **columns}.items():
        if column not in known:
            told = ", ".join(sorted(known)) or "none"
            raise StartupError(f"{source} has no column {column} for {field}: it has {told}")


def read_symbols(rows: Rows, columns: Columns) -> SourceRows[SymbolEntry]:
    """The symbols. Raises StartupError for too many."""

    def entry(row: Mapping[str, Any], ticker: str) -> SymbolEntry:
        details = {name: optional(_DETAIL_READERS.get(name, _name), _field(row, columns, name)) for name in DETAILS}
        active = optional(_flag, _field(row, columns, "active"))
        return SymbolEntry(ticker, active is not False, details)

    return _read(rows, columns, "symbol", symbol, entry, MOST_SYMBOLS)


def read_universes(rows: Rows, columns: Columns) -> SourceRows[UniverseEntry]:
    """The universes. Raises StartupError for too many."""

    def entry(row: Mapping[str, Any], key: str) -> UniverseEntry:
        name = optional(_name, _field(row, columns, "name"))
        description = optional(_description, _field(row, columns, "description"))
        return UniverseEntry(key, name, description, _members(required(_field(row, columns, "symbols"))))

    found = _read(rows, columns, "key", _key, entry, MOST_UNIVERSES)
    if sum(len(one.symbols) for one in found.entries.values()) > MOST_MEMBERS_IN_ALL:
        raise StartupError(f"all universes together have more than the {MOST_MEMBERS_IN_ALL:,} symbols they may have")
    return found


def _read(
    rows: Rows,
    columns: Columns,
    identity: str,
    identify: Callable[[Field], str],
    entry: Callable[[Mapping[str, Any], str], Entry],
    most: int,
) -> SourceRows[Entry]:
    found: SourceRows[Entry] = SourceRows({}, [])
    places: dict[str, str] = {}
    for count, (where, row) in enumerate(rows, 1):
        if count > most:
            raise StartupError(f"the source has more than {most:,} rows, which is more than a catalogue may have")
        subject = None
        try:
            subject = identify(required(_field(row, columns, identity)))
            if first := places.get(subject):
                found.refused.append(RefusedRow(where, subject, f"{subject} stands at {first} already"))
            else:
                places[subject] = where
                found.entries[subject] = entry(row, subject)
        except RefusedError as error:
            found.refused.append(RefusedRow(where, subject, str(error)))
    return found


def _field(row: Mapping[str, Any], columns: Columns, name: str) -> Field:
    """The field under the name of its column, so that a refusal names what its reader has written."""
    column = columns.get(name, name)
    value = row.get(column)
    return column, None if isinstance(value, str) and not value.strip() else value


def _name(field: Field) -> str:
    return text(field, LONGEST_NAME)


def _description(field: Field) -> str:
    return text(field, 1_000)


def _market_cap(field: Field) -> float:
    value = field[1]
    return number((field[0], value if isinstance(value, str | int | float) else str(value)), low=0)


_DETAIL_READERS: Mapping[str, Callable[[Field], Any]] = {"market_cap": _market_cap}
"""Of details that are no texts."""


def _flag(field: Field) -> bool:
    word = _WORDS.get(str(field[1]).strip().lower())
    if word is None:
        raise RefusedError("wrong-type", f"{field[0]} is {preview(field[1])}: expected true or false")
    return word


def _key(field: Field) -> str:
    key = text(field)
    if not _KEY.fullmatch(key):
        raise RefusedError(
            "not-a-name",
            f"{field[0]} is {preview(field[1])}: expected 1 to 64 letters, digits or . _ : -, a letter or digit first",
        )
    return key


def _members(field: Field) -> list[str]:
    """A list, a JSON list, or symbols parted by blanks, commas or semicolons."""
    name, value = field
    if isinstance(value, str):
        value = _spelled_members(name, value.strip())
    if not isinstance(value, list):
        raise RefusedError("wrong-type", f"{name} is {preview(value)}, which is not a list of symbols")
    if len(value) > MOST_MEMBERS:
        raise RefusedError("too-large", f"{name} has {len(value):,} symbols, more than {MOST_MEMBERS:,}")
    return list(dict.fromkeys(_each_member(name, value)))


def _spelled_members(name: str, spelled: str) -> Any:
    if not spelled.startswith("["):
        return [part for part in _SEPARATORS.split(spelled) if part]
    try:
        return orjson.loads(spelled)
    except orjson.JSONDecodeError as error:
        raise RefusedError("not-json", f"{name} begins like a JSON list and is none: {error}") from error


def _each_member(name: str, members: list[Any]) -> Iterator[str]:
    for place, member in enumerate(members):
        yield symbol((f"{name}[{place}]", member))
