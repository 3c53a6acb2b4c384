"""One field of a message to one value of an event: numbers, times, names.

Each function raises RefusedError for what it cannot read.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from math import inf, isfinite
from typing import Any, TypeVar

from domain.wire.refusal import RefusedError, preview

Field = tuple[str, Any]
"""A field's name in the message and its value; the value is None if the message does not have it."""

T = TypeVar("T")

END_OF_TIME = 253402300800.0
"""The first second of the year 10000."""

SMALLEST_SPELLED_TIME = 1e8
"""A string of digits below this (1973 as epoch seconds) is rather a date, such as 20250904."""

LARGEST_COUNT = 2**53
"""The largest whole number that every JSON reader keeps exactly."""

_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
_SYMBOL = re.compile(r"[A-Za-z0-9^][A-Za-z0-9.:\-^=/_]{0,31}")
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@+=~\-]{0,127}")


def required(field: Field) -> Field:
    """The field itself, refused if the message does not have it."""
    name, value = field
    if value is None:
        raise RefusedError("missing-field", f"{name} is missing or empty")
    return field


def optional(reader: Callable[[Field], T], field: Field) -> T | None:
    """What ``reader`` makes of the field, None if the message does not have it."""
    return None if field[1] is None else reader(field)


def number(field: Field, low: float = -inf, high: float = inf) -> float:
    """A finite number from ``low`` to ``high``; a string that spells one will do."""
    name, value = field
    if type(value) is not float:
        value = _number(name, value)
    if not low <= value <= high:
        raise RefusedError("out-of-range", f"{name} is {preview(field[1])}, outside {low:g}..{high:g}")
    return float(value)


def fraction(field: Field) -> float:
    """A number from 0 to 1."""
    return number(field, 0.0, 1.0)


def count(field: Field) -> int:
    """A whole number from 0 to 2**53."""
    value = number(field, 0, LARGEST_COUNT)
    if not value.is_integer():
        raise RefusedError("not-a-number", f"{field[0]} is {preview(field[1])}, which is not a whole number")
    return int(value)


def _number(name: str, value: Any) -> float:
    if type(value) is int:
        return float(value)
    spelled = _spelled_number(value) if isinstance(value, str) else None
    if spelled is not None:
        return spelled
    raise RefusedError("not-a-number", f"{name} is {preview(value)}, which is not a number")


def _spelled_number(text: str) -> float | None:
    """The finite number that ``text`` spells in decimal digits, None if it spells none."""
    return float(text) if _NUMBER.fullmatch(text) and isfinite(float(text)) else None


def moment(field: Field) -> float:
    """A time in epoch seconds, from the years 1970 to 9999.

    Numbers are seconds, milliseconds, microseconds or nanoseconds since the epoch, by magnitude: seconds
    below 1e11 (the year 5138), then a thousand times as much for each step. Strings are such numbers or
    ISO 8601, in UTC if they name no zone.
    """
    value = field[1]
    seconds: float | None = None
    if type(value) is float or type(value) is int:
        seconds = _from_epoch(value)
    elif isinstance(value, str):
        seconds = _from_text(value.strip())
    if seconds is None or not 0 <= seconds < END_OF_TIME:
        raise RefusedError(
            "not-a-time",
            f"{field[0]} is {preview(value)}, which is not a time from 1970 to 9999: "
            "expected epoch seconds, epoch milliseconds or ISO 8601",
        )
    return seconds


def _from_epoch(value: float) -> float:
    if value < 1e11:
        return float(value)
    if value < 1e14:
        return value / 1_000
    if value < 1e17:
        return value / 1_000_000
    return value / 1_000_000_000


def _from_text(text: str) -> float | None:
    value = _spelled_number(text)
    if value is not None and value >= SMALLEST_SPELLED_TIME:
        return _from_epoch(value)
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def symbol(field: Field) -> str:
    """A ticker symbol in capitals, 1 to 32 characters: ``AAPL``, ``BRK.B``, ``X:BTCUSD``, ``^GSPC``."""
    name, value = field
    if isinstance(value, str) and _SYMBOL.fullmatch(ticker := value.strip()):
        return ticker.upper()
    raise RefusedError(
        "not-a-symbol",
        f"{name} is {preview(value)}, which is not a symbol: expected 1 to 32 letters, digits or . : - ^ = / _",
    )


def text(field: Field, longest: int = 64, without: str = "") -> str:
    """A printable text of 1 to ``longest`` characters, stripped of surrounding blanks."""
    name, value = field
    if not isinstance(value, str):
        raise RefusedError("wrong-type", f"{name} is {preview(value)}, which is not a text")
    stripped = value.strip()
    if 0 < len(stripped) <= longest and stripped.isprintable() and not (without and without in stripped):
        return stripped
    raise RefusedError(
        "not-a-name",
        f"{name} is {preview(value)}: expected 1 to {longest} printable characters"
        + (f" without {without!r}" if without else ""),
    )


def pattern_name(field: Field) -> str:
    """A pattern's name as announced; without a colon, which separates the parts of a pattern id."""
    return text(field, without=":")


def tier(field: Field) -> str:
    """A detector tier or time frame in small letters; without a colon, as in a pattern's name."""
    return text(field, longest=32, without=":").lower()


def reference(field: Field) -> str:
    """An identifier that is not ours, 1 to 128 printable characters; a whole number will do."""
    name, value = field
    return text((name, str(value) if type(value) is int else value), longest=128)


def job_id(field: Field) -> str:
    """A backtest's identifier, fit for a stream's name and a URL path; a whole number will do."""
    name, value = field
    identifier = reference(field)
    if not _JOB_ID.fullmatch(identifier):
        raise RefusedError(
            "not-a-name",
            f"{name} is {preview(value)}: expected 1 to 128 letters, digits or _ . : @ + = ~ -, "
            "the first a letter or digit",
        )
    return identifier


def message_text(field: Field) -> str:
    """Any text, such as an error message of several lines."""
    name, value = field
    if not isinstance(value, str):
        raise RefusedError("wrong-type", f"{name} is {preview(value)}, which is not a text")
    return value


def mapping(field: Field) -> dict[str, Any]:
    """A JSON object, as a copy of its top level."""
    name, value = field
    if not isinstance(value, dict):
        raise RefusedError("wrong-type", f"{name} is {preview(value)}, which is not an object")
    return dict(value)
