"""Cursors: where a page ended, as an opaque text that fits into a URL."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from typing import Literal

import orjson

from projections.base import LOWEST
from projections.queries import Cursor, PatternSort
from readapi.parameters import SortOrder

Order = tuple[PatternSort, SortOrder]


def encode_cursor(end: Cursor, order: Order) -> str:
    """The cursor of a page that was sorted in this order."""
    value = None if end.value == LOWEST else end.value
    return urlsafe_b64encode(orjson.dumps([*order, value, end.key])).decode().rstrip("=")


def decode_cursor(text: str, order: Order) -> Cursor:
    """What ``encode_cursor`` made. Raises ValueError for what it did not make, or made in another order."""
    try:
        content = orjson.loads(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (Error, ValueError):
        raise ValueError("is no cursor of ours") from None
    match content:
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
