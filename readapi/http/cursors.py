"""Cursors: the end of a page as opaque text that fits into a URL."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from typing import Any, NamedTuple

import orjson

from projections.columns import LOWEST, Kind
from projections.queries import Cursor, Filter, Positions, Query
from readapi.http.parameters import SortOrder

_INVALID = "is not a valid cursor; take the value of next from an earlier response"


class Order(NamedTuple):
    """The order of a page: the sort key as the client names it, the direction, and the kind of the sort values."""

    sort_by: str
    sort_order: SortOrder
    kind: Kind | None
    """``number`` or ``text``. None: rows are ordered by their keys alone."""
    column: str | None
    """The column that the sort key stands for. None: rows are ordered by their keys alone."""


class PageRequest(NamedTuple):
    """The page that a client requests: its number or its cursor, its size and its order."""

    number: int | None
    cursor: str | None
    size: int
    order: Order

    def query(self, now: float, filters: tuple[Filter, ...]) -> Query:
        """Make the query for the page.

        Args:
            now: Moment of the query, in epoch seconds.
            filters: The filters of the query.
        """
        number, cursor, size, order = self
        return Query(
            now,
            filters,
            order.column,
            order.sort_order == "desc",
            (number - 1) * size if number else 0,
            decode_cursor(cursor, order) if cursor else None,
            size,
        )


HIGHEST_POSITION = 10**15 - 1
"""Highest position that a cursor or a parameter may name."""


def encode_cursor(end: Cursor, order: Order) -> str:
    """Encode the end of a page that is sorted in this order."""
    value = None if end.value == LOWEST else end.value
    return _encode([order.sort_by, order.sort_order, value, end.key])


def decode_cursor(text: str, order: Order) -> Cursor:
    """Decode the result of ``encode_cursor``.

    Raises:
        ValueError: The text is not a result of ``encode_cursor``, or it belongs to another order.
    """
    match _decode(text):
        case [str(sort_by), str(sort_order), value, str(key)]:
            if (sort_by, sort_order) != (order.sort_by, order.sort_order):
                raise ValueError(f"belongs to sort_by={sort_by} and sort_order={sort_order}; use the same order")
            end = Cursor(LOWEST if value is None and order.kind == "number" else value, key)
            # Keys of rows contain no NUL, and PostgreSQL accepts no NUL in a text.
            if _has_kind(order.kind, value) and encode_cursor(end, order) == text and "\0" not in f"{value}{key}":
                return end
    raise ValueError(_INVALID)


def _has_kind(kind: Kind | None, value: object) -> bool:
    """Return whether a sort value has the kind. None stands for a missing value."""
    if value is None:
        return True
    return isinstance(value, str) if kind == "text" else kind == "number" and isinstance(value, float)


def encode_positions(positions: Positions) -> str:
    """Encode the positions behind which the next page of events begins."""
    return _encode(dict(sorted(positions.items())))


def decode_positions(text: str) -> Positions:
    """Decode the result of ``encode_positions``. Raises ValueError for any other text."""
    content = _decode(text)
    if isinstance(content, dict) and all(
        type(position) is int and 0 <= position <= HIGHEST_POSITION for position in content.values()
    ):
        positions: dict[str, int] = content
        if encode_positions(positions) == text:
            return positions
    raise ValueError(_INVALID)


def _encode(content: Any) -> str:
    return urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


def _decode(text: str) -> Any:
    try:
        return orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (Error, ValueError):
        raise ValueError(_INVALID) from None
