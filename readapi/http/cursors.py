"""Cursors: where a page ended, as an opaque text that fits into a URL."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from typing import Any, Literal

import orjson

from projections.base import LOWEST
from projections.queries import Cursor, PatternSort, Positions
from readapi.http.parameters import SortOrder

Order = tuple[PatternSort, SortOrder]

HIGHEST_POSITION = 10**15 - 1
"""Of any log, ever."""


def encode_cursor(end: Cursor, order: Order) -> str:
    """The cursor of a page that was sorted in this order."""
    value = None if end.value == LOWEST else end.value
    return _encode([*order, value, end.key])


def decode_cursor(text: str, order: Order) -> Cursor:
    """What ``encode_cursor`` made. Raises ValueError for what it did not make, or made in another order."""
    match _decode(text):
        case [str(sort_by), str(sort_order), value, str(key)] if _fits(sort_by, value):
            if (sort_by, sort_order) != order:
                raise ValueError(f"belongs to sort_by={sort_by} and sort_order={sort_order}; sort as it does")
            end = Cursor(LOWEST if value is None else value, key)
            if encode_cursor(end, order) == text:
                return end
    raise ValueError("is no cursor of ours")


def _fits(sort_by: str | Literal["symbol"], value: object) -> bool:
    if sort_by == "symbol":
        return isinstance(value, str)
    return value is None or isinstance(value, float)


def encode_positions(positions: Positions) -> str:
    """The cursor of a page of events that begins behind these positions."""
    return _encode(dict(sorted(positions.items())))


def decode_positions(text: str) -> Positions:
    """What ``encode_positions`` made. Raises ValueError for what it did not make."""
    content = _decode(text)
    if isinstance(content, dict) and all(
        type(position) is int and 0 <= position <= HIGHEST_POSITION for position in content.values()
    ):
        positions: dict[str, int] = content
        if encode_positions(positions) == text:
            return positions
    raise ValueError("is no cursor of ours")


def _encode(content: Any) -> str:
    return urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


def _decode(text: str) -> Any:
    try:
        return orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (Error, ValueError):
        raise ValueError("is no cursor of ours") from None
