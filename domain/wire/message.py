"""A message's bytes to its levels: from the envelope outside to the body inside."""

from collections.abc import Mapping
from typing import Any

import orjson

from domain.wire.refusal import RefusedError
from domain.wire.values import Field

MAX_DEPTH = 64
"""How deep objects and lists may nest; far below what any JSON reader down the line can take."""

MAX_LEVELS = 4
"""How many objects deep a body is looked for; what is nested deeper stays as it is."""

_NESTED = ("data", "detection")


def parse(payload: bytes, max_bytes: int) -> dict[str, Any]:
    """The JSON object in ``payload``. Raises RefusedError."""
    if len(payload) > max_bytes:
        raise RefusedError("too-large", f"the message has {len(payload)} bytes, more than the {max_bytes} allowed")
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise _not_json(error) from error
    if payload.count(b"{") + payload.count(b"[") > MAX_DEPTH or b"\\u0000" in payload:
        _check_contents(message)
    if not isinstance(message, dict):
        kind = "a list" if isinstance(message, list) else "a single value"
        raise RefusedError("not-an-object", f"the message is {kind}, not an object")
    return message


def _not_json(error: orjson.JSONDecodeError) -> RefusedError:
    if "depth limit" in error.msg:
        return _too_deep()
    where = f"at character {error.pos}"
    found = error.doc[error.pos : error.pos + 8] if error.doc else ""
    for name in ("NaN", "Infinity"):
        if found.lower().startswith(name.lower()):
            return RefusedError("not-a-number", f"the message holds {name} {where}: {name} is not a number")
    if "infinity" in error.msg:
        return RefusedError("not-a-number", f"the message holds {where} a number too large to be one")
    return RefusedError("not-json", f"the message is not JSON: {error}")


def _too_deep() -> RefusedError:
    return RefusedError("too-deep", f"the message nests deeper than {MAX_DEPTH} levels")


def _check_contents(message: Any) -> None:
    """Refuse deep nesting, and NUL characters, which PostgreSQL cannot store in a text."""
    values = [message]
    for _ in range(MAX_DEPTH + 1):
        if any(isinstance(value, str) and "\0" in value for value in values):
            raise RefusedError("control-character", "the message holds a NUL character in a text")
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
    """The levels of one announcement. What is taken from them is understood; what is left is ``rest``.

    The first ``shared`` levels belong to a batch, and to its other items too.
    """

    __slots__ = ("levels", "shared")

    def __init__(self, levels: list[dict[str, Any]], shared: int = 0) -> None:
        self.levels = levels
        self.shared = shared

    @property
    def nested(self) -> bool:
        """Whether the body stands in an envelope."""
        return len(self.levels) > 1

    def take(self, *names: str) -> Field:
        """The innermost field with one of the names; null and the empty string count as absent."""
        for level in reversed(self.levels):
            for name in names:
                if name in level:
                    value = level.pop(name)
                    if value is not None and value != "":
                        return name, value
        return names[0], None

    def take_outer(self, name: str) -> Field:
        """The outermost field of that name in the envelope; in the message itself if it is flat."""
        for level in self.levels[:-1] or self.levels:
            if name in level:
                value = level.pop(name)
                if value is not None and value != "":
                    return name, value
        return name, None

    def take_inner(self, name: str) -> Field:
        """The field of that name in the body alone."""
        value = self.levels[-1].pop(name, None)
        return name, None if value == "" else value

    def take_event_type(self) -> Field:
        """The outermost ``event_type``, else ``type``, of the message or batch item; repetitions go too."""
        own = self.levels[self.shared :]
        for name in ("event_type", "type"):
            for level in own:
                value = level.get(name)
                if value is not None and value != "":
                    for repeated in own:
                        if repeated.get(name) == value:
                            del repeated[name]
                    return name, value
        return "event_type", None

    def take_event_id(self) -> str | None:
        """The producer's outermost ``event_id`` of the message or the batch item, if it can serve as one."""
        for level in self.levels[self.shared :]:
            value = level.get("event_id")
            if isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable() and value == value.strip():
                del level["event_id"]
                return value
        return None

    def rest(self) -> dict[str, Any]:
        """Every field that was not taken, under its own name; the inner one first.

        Where an inner level has a field of the same name, the outer one is kept as ``outer.<name>``.
        """
        rest: dict[str, Any] = {}
        for level in reversed(self.levels):
            for name, value in level.items():
                free = name
                while free in rest:
                    free = f"outer.{free}"
                rest[free] = value
        return rest


def unwrap(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Copies of the message's levels, outermost first, each without the next."""
    level = dict(message)
    levels = [level]
    while len(levels) < MAX_LEVELS:
        for name in _NESTED:
            if isinstance(level.get(name), dict):
                level = dict(level.pop(name))
                levels.append(level)
                break
        else:
            break
    return levels
