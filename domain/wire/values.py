"""Readers of single values: each turns one field of a message into a number, a time or a text.

Every reader raises RefusedError for a value that it cannot read.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from math import inf, isfinite
from typing import Any, TypeVar

from domain.symbols import is_symbol
from domain.wire.refusal import RefusedError, preview

Field = tuple[str, Any]
"""The name of a field in the message, and its value. The value is None if the message does not have the field."""

T = TypeVar("T")

MAX_TIME = 253402300800.0
"""The first second of the year 10000, in seconds since the epoch. A time must be earlier."""

MIN_SECONDS, MAX_SECONDS = 1e8, 1e11
"""The numbers from the first to below the second count as epoch seconds (the years 1973 to 5138)."""

SUBDIVISIONS = (1e3, 1e6, 1e9)
"""Milliseconds, microseconds and nanoseconds per second."""

MIN_SUBDIVIDED, MAX_SUBDIVIDED = 1e9, 4_102_444_800.0
"""The times, in epoch seconds, that count as milliseconds, microseconds or nanoseconds: from September 2001 to the year
2100. Other numbers have other meanings, such as .NET ticks (1990 in nanoseconds) and FILETIME (1974)."""

NO_END = 253370764800.0
"""The first second of the year 9999, in seconds since the epoch. An end in this year means that there is no end."""

MAX_COUNT = 2**53
"""The highest whole number that every JSON parser reads exactly (RFC 8259, section 6)."""

_NUMBER = re.compile(r"\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\s*")
_NO_NUMBER = re.compile(r"\s*[+-]?(nan|inf|infinity)\s*", re.IGNORECASE)
"""NaN and infinity as texts. The parser of messages turns the constants into such texts."""

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@+=~\-]{0,127}")


def required(field: Field) -> Field:
    """Return the field. Refuse the message if it does not have the field."""
    name, value = field
    if value is None:
        raise RefusedError("missing-field", f"{name} is missing or empty: the field is required")
    return field


def optional(reader: Callable[[Field], T], field: Field) -> T | None:
    """Read the field with ``reader``, or return None if the message does not have the field."""
    return None if field[1] is None else reader(field)


def is_given(field: Field) -> bool:
    """Return whether the message has the field of a number or a time. NaN and Infinity mean that it does not."""
    value = field[1]
    return value is not None and not (type(value) is str and _NO_NUMBER.fullmatch(value))


def number(field: Field, low: float = -inf, high: float = inf) -> float:
    """Read a finite number from ``low`` to ``high``. A text of decimal digits is accepted too."""
    name, value = field
    if type(value) is not float:
        value = _number(name, value)
    if not low <= value <= high:
        expected = f"of at least {low:g}" if high == inf else f"from {low:g} to {high:g}"
        raise RefusedError("out-of-range", f"{name} is {preview(field[1])}: expected a number {expected}")
    return float(value)


def is_percentage(field: Field, low: float) -> bool:
    """Return whether a field is a number from ``low`` to 100, which is a fraction in per cent."""
    value = field[1]
    if type(value) is str:
        value = _parse_number(value)
    return (type(value) is float or type(value) is int) and low <= value <= 100


def fraction(field: Field) -> float:
    """Read a number from 0 to 1."""
    return number(field, 0.0, 1.0)


def count(field: Field) -> int:
    """Read a whole number from 0 to ``MAX_COUNT``."""
    value = number(field, 0, MAX_COUNT)
    if not value.is_integer():
        raise RefusedError(
            "not-a-number", f"{field[0]} is {preview(field[1])}, which is not a whole number: expected 0, 1, 2 …"
        )
    return int(value)


def _number(name: str, value: Any) -> float:
    if type(value) is int:
        return float(value)
    parsed = _parse_number(value) if isinstance(value, str) else None
    if parsed is not None:
        return parsed
    raise RefusedError("not-a-number", f"{name} is {preview(value)}, which is not a number: expected a finite number")


def _parse_number(text: str) -> float | None:
    """Parse a finite number in decimal digits. Return None for any other text."""
    return float(text) if _NUMBER.fullmatch(text) and isfinite(float(text)) else None


def moment(field: Field, timezone: tzinfo = UTC) -> float:
    """Read a time from 1970 to 9999.

    A number is a time in seconds since the epoch (1973 to 5138), or in milliseconds, microseconds or nanoseconds (2001
    to 2100), or the digits of a date or a time (20250904, 20250904103000). Every other number is refused. A text is
    such a number or a time in ISO 8601.

    Args:
        field: The field.
        timezone: The zone of a time that names no zone.

    Returns:
        The time in seconds since the epoch.
    """
    value = field[1]
    seconds: float | None = None
    if type(value) is float or type(value) is int:
        seconds = _read_time(value, timezone)
    elif isinstance(value, str):
        seconds = _parse_time(value.strip(), timezone)
    if seconds is None or not 0 <= seconds < MAX_TIME:
        raise RefusedError(
            "not-a-time",
            f"{field[0]} is {preview(value)}, which is not a time: expected epoch seconds, epoch milliseconds (2001 to "
            "2100) or ISO 8601",
        )
    return seconds


def end(field: Field, timezone: tzinfo = UTC) -> float | None:
    """Read the time of an end. Return None for a time in the year 9999, which means that there is no end."""
    seconds = moment(field, timezone)
    return None if seconds >= NO_END else seconds


def _read_time(value: float, timezone: tzinfo) -> float | None:
    if MIN_SECONDS <= value < MAX_SECONDS:
        return float(value)
    for subdivision in SUBDIVISIONS:
        if MIN_SUBDIVIDED <= value / subdivision < MAX_SUBDIVIDED:
            return value / subdivision
    return _read_digits(str(int(value)), timezone) if 1e7 <= value < 1e14 and value == int(value) else None


def _read_digits(digits: str, timezone: tzinfo) -> float | None:
    """Read the digits of a date or of a time: YYYYMMDD or YYYYMMDDhhmmss. Return None for other digits."""
    if len(digits) not in (8, 14):
        return None
    return _parse_iso_8601(digits[:8] + ("T" + digits[8:] if digits[8:] else ""), timezone)


def _parse_time(text: str, timezone: tzinfo) -> float | None:
    value = _parse_number(text)
    return _parse_iso_8601(text.upper(), timezone) if value is None else _read_time(value, timezone)


def _parse_iso_8601(text: str, timezone: tzinfo) -> float | None:
    try:
        time = datetime.fromisoformat(text)
        # The last microseconds of 9999 are rounded to the year 10000.
        return min((time if time.tzinfo else time.replace(tzinfo=timezone)).timestamp(), MAX_TIME - 1)
    except (ValueError, OverflowError):  # at the first and last hours of the calendar, a zone may lead out of it
        return None


def symbol(field: Field) -> str:
    """Read a ticker symbol of 1 to 32 characters in its case: ``AAPL``, ``BRK.B``, ``X:BTCUSD``, ``TpC``."""
    name, value = field
    if isinstance(value, str) and is_symbol(ticker := value.strip()):
        return ticker
    raise RefusedError(
        "not-a-symbol",
        f"{name} is {preview(value)}, which is not a symbol: expected 1 to 32 printable characters without white space",
    )


def text(field: Field, max_length: int = 64, forbidden: str = "") -> str:
    """Read a printable text and remove surrounding blanks.

    Args:
        field: The field.
        max_length: The highest number of characters.
        forbidden: A character that the text must not contain. Empty: every printable character is allowed.
    """
    name, value = field
    if not isinstance(value, str):
        raise RefusedError("wrong-type", f"{name} is {preview(value)}, which is not a text: expected a JSON string")
    stripped = value.strip()
    if 0 < len(stripped) <= max_length and stripped.isprintable() and not (forbidden and forbidden in stripped):
        return stripped
    raise RefusedError(
        "not-a-name",
        f"{name} is {preview(value)}: expected 1 to {max_length} printable characters"
        + (f" without {forbidden!r}" if forbidden else ""),
    )


def pattern_name(field: Field) -> str:
    """Read the name of a pattern. It must not contain a colon, which separates the parts of a pattern id."""
    return text(field, forbidden=":")


def tier(field: Field) -> str:
    """Read a detector tier or time frame in its case: ``1M`` is not ``1m``. It must not contain a colon."""
    return text(field, max_length=32, forbidden=":")


def identifier(field: Field) -> str:
    """Read an identifier of another system: 1 to 128 printable characters, or a whole number."""
    name, value = field
    return text((name, str(value) if type(value) is int else value), max_length=128)


def job_id(field: Field) -> str:
    """Read the id of a backtest run, which fits into a stream name and a URL path. A whole number is accepted."""
    name, value = field
    job = identifier(field)
    if not _JOB_ID.fullmatch(job):
        raise RefusedError(
            "not-a-name",
            f"{name} is {preview(value)}: expected 1 to 128 letters, digits or _ . : @ + = ~ -, "
            "the first a letter or digit",
        )
    return job


def message_text(field: Field) -> str:
    """Read a text with any characters, such as an error message of several lines."""
    name, value = field
    if not isinstance(value, str):
        raise RefusedError("wrong-type", f"{name} is {preview(value)}, which is not a text: expected a JSON string")
    return value


def mapping(field: Field) -> dict[str, Any]:
    """Read a JSON object and return a shallow copy."""
    name, value = field
    if not isinstance(value, dict):
        raise RefusedError("wrong-type", f"{name} is {preview(value)}, which is not an object: expected a JSON object")
    return dict(value)
