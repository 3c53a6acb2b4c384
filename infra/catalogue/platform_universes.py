"""The universes of the platform as it stores them: groups with memberships, and cache entries in several shapes.

The rows have the fields of a universe, so that ``read_universes`` checks them like those of every other source.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from psycopg import Connection
from psycopg.rows import dict_row

from infra.catalogue.parsing import MAX_UNIVERSES, Rows
from infra.catalogue.platform_source import has_table
from infra.postgres.statements import load_statements

GROUPS = ("definition_groups", "group_memberships")
"""Tables of groups: funds, themes, sectors and segments, each with its members."""

CACHE = "cache_entries"
"""Table of cache entries. An entry is a universe if its type says so."""

_MEMBER_LISTS = ("symbols", "stocks", "tickers", "etfs", "members", "list")
"""Members of an object that can have the symbols."""

_TICKERS = ("ticker", "symbol")
"""Members of a listed object that can have its symbol."""

_GENERAL_KEYS = frozenset(_MEMBER_LISTS)
"""Keys of cache entries that name no universe. The name of the entry does: ``themes``, ``AI``, ``list``."""

_statements = load_statements(__package__)
_SELECT_GROUPS = _statements["select_groups"]
_SELECT_CACHE_ENTRIES = _statements["select_cache_entries"]


def has_platform_universes(connection: Connection) -> bool:
    """Return whether the database has a table in which the platform stores universes."""
    return has_table(connection, CACHE) or all(has_table(connection, table) for table in GROUPS)


def read_platform_universes(connection: Connection) -> Rows:
    """Read the universes of the platform: first its groups, then the cache entries whose keys no group has."""
    keys: set[str] = set()
    if all(has_table(connection, table) for table in GROUPS):
        for where, row in _groups(connection):
            keys.add(row["key"])
            yield where, row
    if has_table(connection, CACHE):
        yield from (numbered for numbered in _cache_entries(connection) if numbered[1]["key"] not in keys)


def _groups(connection: Connection) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for row in _rows(connection, _SELECT_GROUPS):
        yield f"definition_groups id {row['id']}", {**row, "key": row["name"], "name": row["description"]}


def _cache_entries(connection: Connection) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for row in _rows(connection, _SELECT_CACHE_ENTRIES):
        value = row["value"]
        described = value if isinstance(value, dict) else {}
        key = row["name"] if row["key"].strip().lower() in _GENERAL_KEYS else row["key"]
        yield (
            f"cache_entries id {row['id']}",
            {
                "key": key,
                "name": row["name"],
                "description": described.get("description"),
                "criteria": described.get("criteria"),
                "category": row["category"],
                "symbols": _members(value),
            },
        )


def _rows(connection: Connection, statement: str) -> Iterator[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        yield from cursor.execute(statement, [MAX_UNIVERSES + 1])


def _members(value: Any) -> Any:
    """Return the list of symbols in a value of any shape. A value of an unknown shape is returned as it is."""
    if isinstance(value, dict):
        lists = [value[name] for name in _MEMBER_LISTS if isinstance(value.get(name), list | str)]
        return _members(lists[0]) if lists else value
    return [_ticker(member) for member in value] if isinstance(value, list) else value


def _ticker(member: Any) -> Any:
    if not isinstance(member, dict):
        return member
    return next((member[name] for name in _TICKERS if name in member), member)
