"""The levels of a message: from the outer envelope to the inner body.

Producers wrap the body of an event in up to three envelopes. A level is one of these nested objects without the next.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from domain.wire.conventions import DEFAULT_CONVENTIONS, Conventions
from domain.wire.refusal import RefusedError
from domain.wire.values import Field

MAX_DEPTH = 64
"""Highest number of nested objects and lists. It is far below the limit of every JSON parser in use."""

MAX_VALUES = 100_000
"""Highest number of names and values in all objects and lists. An empty object has 2 bytes, and 64 in memory."""

MAX_LEVELS = 4
"""Highest number of levels of a message. A deeper object stays a value of the innermost level."""

_TYPE_FIELDS = ("event_type", "type", "event")
"""The fields that name the event type. ``event`` counts only if it is a text: producers also use it for objects."""

_BODY_FIELDS = ("data", "detection")
"""The fields of an envelope that hold the next level."""


def parse_message(payload: bytes, max_bytes: int) -> dict[str, Any]:
    """Parse a payload.

    Args:
        payload: UTF-8 encoded JSON.
        max_bytes: The highest accepted number of bytes.

    Returns:
        The JSON object.

    Raises:
        RefusedError: The payload is too large, no JSON object, nested too deeply, has too many values, or holds a NUL
            character.
    """
    if len(payload) > max_bytes:
        raise RefusedError(
            "too-large", f"the message has {len(payload)} bytes, more than the {max_bytes} allowed: split it"
        )
    message = _parse_json(payload)
    if _may_break_bounds(payload):
        _check_contents(message)
    if not isinstance(message, dict):
        kind = "a list" if isinstance(message, list) else "a single value"
        raise RefusedError("not-an-object", f"the message is {kind}, not an object: send one JSON object")
    return message


def _may_break_bounds(payload: bytes) -> bool:
    """Return whether the contents of a message must be checked. Most messages are too short to have too many values."""
    brackets = payload.count(b"{") + payload.count(b"[")
    if brackets > MAX_DEPTH or b"\\u0000" in payload:
        return True
    return len(payload) > MAX_VALUES and brackets + payload.count(b",") > MAX_VALUES


def _parse_json(payload: bytes) -> Any:
    """Parse JSON in which NaN and Infinity may stand for numbers. They become texts, which are no numbers either."""
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in payload and b"Infinity" not in payload:
            raise _not_json(error) from error
    try:
        return orjson.loads(_quote_constants(payload))
    except orjson.JSONDecodeError as error:
        raise _not_json(error) from error


def _quote_constants(payload: bytes) -> bytes:
    """Turn the constants NaN and Infinity outside of texts into texts."""
    parts = payload.split(b'"')
    is_text = False
    for number, part in enumerate(parts):
        if is_text:
            is_text = (len(part) - len(part.rstrip(b"\\"))) % 2 == 1  # the quotation mark behind the part is escaped
        else:
            quoted = part.replace(b"NaN", b'"NaN"').replace(b"Infinity", b'"Infinity"')
            parts[number] = quoted.replace(b'-"Infinity"', b'"-Infinity"')
            is_text = True
    return b'"'.join(parts)


def _not_json(error: orjson.JSONDecodeError) -> RefusedError:
    if "depth limit" in error.msg:
        return _too_deep()
    if "infinity" in error.msg:
        reason = f"the number at character {error.pos} is too large: expected at most 1.8e308"
        return RefusedError("not-a-number", reason)
    return RefusedError("not-json", f"the message is not JSON: {error}: send one JSON object in UTF-8")


def _too_deep() -> RefusedError:
    return RefusedError(
        "too-deep", f"the message nests objects and lists deeper than {MAX_DEPTH} levels: send a flatter message"
    )


def _check_contents(message: Any) -> None:
    """Refuse deep nesting, too many values and NUL characters. PostgreSQL cannot store a NUL character in a text."""
    values, number = [message], 0
    for _ in range(MAX_DEPTH + 1):
        number += len(values)
        if number > MAX_VALUES:
            raise RefusedError(
                "too-large", f"the message has more than the {MAX_VALUES} names and values allowed: split it"
            )
        if any(isinstance(value, str) and "\0" in value for value in values):
            raise RefusedError("control-character", "a text in the message holds a NUL character: remove it")
        inner = [value for value in values if isinstance(value, list)]
        objects = [value for value in values if isinstance(value, dict)]
        values = [item for value in inner for item in value]
        for value in objects:
            values.extend(value.keys())
            values.extend(value.values())
        if not values:
            return
    raise _too_deep()


class MessageLevels:
    """The levels of one announcement. The ``take`` methods remove a field and return its name and its value.

    Args:
        levels: The levels, outermost first. The ``take`` methods change them.
        shared: The number of outer levels that belong to a batch and thus to every item of the batch.
        conventions: The conventions of the producer.

    Attributes:
        percent: The name of the field that was converted from per cent. None: no field was converted.
    """

    __slots__ = ("_inward", "_own", "conventions", "levels", "percent")

    def __init__(
        self, levels: list[dict[str, Any]], shared: int = 0, conventions: Conventions = DEFAULT_CONVENTIONS
    ) -> None:
        self.levels = levels
        self._inward = levels[::-1]
        self._own = levels[shared:]
        self.conventions = conventions
        self.percent: str | None = None

    @property
    def nested(self) -> bool:
        """Whether the message has an envelope."""
        return len(self.levels) > 1

    def take(self, *names: str) -> Field:
        """Take the innermost field with one of the names. Null and the empty string count as absent."""
        for level in self._inward:
            for name in names:
                if name in level:
                    value = level.pop(name)
                    if value is not None and value != "":
                        return name, value
        return names[0], None

    def take_outer(self, name: str) -> Field:
        """Take the outermost field with the name from the envelope, or from the body if there is no envelope."""
        for level in self.levels[:-1] or self.levels:
            if name in level:
                value = level.pop(name)
                if value is not None and value != "":
                    return name, value
        return name, None

    def take_inner(self, name: str) -> Field:
        """Take the field with the name from the body only."""
        value = self.levels[-1].pop(name, None)
        return name, None if value == "" else value

    def take_event_type(self) -> Field:
        """Take the outermost event type of the message or batch item, and its repetitions.

        The field ``event_type`` comes before ``type``, and ``type`` before ``event``.
        """
        for name in _TYPE_FIELDS:
            for level in self._own:
                value = level.get(name)
                if value is not None and value != "" and (name != "event" or isinstance(value, str)):
                    for repeated in self._own:
                        if repeated.get(name) == value:
                            del repeated[name]
                    return name, value
        return "event_type", None

    def take_event_id(self) -> str | None:
        """Take the outermost ``event_id`` of the message or batch item.

        Only a text of 1 to 128 printable characters without surrounding blanks is a valid id. An invalid id stays.
        """
        for level in self._own:
            value = level.get("event_id")
            if isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable() and value == value.strip():
                del level["event_id"]
                return value
        return None

    def remaining_fields(self) -> dict[str, Any]:
        """Return every field that was not taken, the fields of inner levels first.

        A field of an outer level gets the name ``outer.<name>`` if an inner level has a field with its name.
        """
        remaining: dict[str, Any] = {}
        for level in self._inward:
            for name, value in level.items():
                unused = name
                while unused in remaining:
                    unused = f"outer.{unused}"
                remaining[unused] = value
        return remaining


def split_levels(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return copies of the message's levels, outermost first, each without the next level."""
    levels = [dict(message)]
    while len(levels) < MAX_LEVELS and (body := _take_body(levels[-1])) is not None:
        levels.append(body)
    return levels


def _take_body(level: dict[str, Any]) -> dict[str, Any] | None:
    """Remove the body from an envelope, and return a copy. Return None if the level is no envelope."""
    for name in _BODY_FIELDS:
        if isinstance(level.get(name), dict):
            return dict(level.pop(name))
    return None
