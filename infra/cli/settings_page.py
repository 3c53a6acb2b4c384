"""The settings as people see them: what is in effect and where it came from, the page about them, and what is wrong."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson
from pydantic import SecretStr, ValidationError

from infra.embedded import find_servers
from infra.settings.settings import PREFIX, Settings, variable
from infra.settings.urls import without_password

HIDDEN = "…"
"""Stands for what is secret."""

_PLATFORM = {"redis_url": "platform_redis_", "postgres_dsn": "platform_db_", "catalogue_dsn": "platform_db_"}


class Effective(NamedTuple):
    """A setting as it is in effect; ``source`` names the variables that it came from, or says where else."""

    variable: str
    value: str | None
    source: str


def effective(settings: Settings) -> list[Effective]:
    """All settings, those that are secret hidden."""
    return [
        Effective(variable(name), _shown(value), source)
        for name in Settings.model_fields
        for value, source in [_value(settings, name)]
    ]


def _value(settings: Settings, name: str) -> tuple[Any, str]:
    value = getattr(settings, name)
    if _is_set(name):
        return value, variable(name)
    if name in _PLATFORM and value is not None:
        parts = [one for one in Settings.model_fields if one.startswith(_PLATFORM[name])]
        return value, ", ".join(variable(one) for one in parts if _is_set(one))
    if name == "redis_url" or (name == "postgres_dsn" and settings.redis_url is None):
        servers = find_servers(settings.data)
        if servers is not None:
            return getattr(servers, name), f"`tickview up` on {settings.data.resolve()}"
    return value, "default"


def _is_set(name: str) -> bool:
    return any(one.upper() == variable(name) for one in os.environ)


def _shown(value: Any) -> str | None:
    if value is None or value in ((), {}):
        return None
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    return ",".join(value) if isinstance(value, tuple) else without_password(str(value))


def problems_of(error: ValidationError) -> list[str]:
    """What is wrong, a line each; never the values, some of which are secret."""
    return [
        ": ".join(filter(None, (_variable_at(one["loc"]), one["msg"].removeprefix("Value error, "))))
        for one in error.errors(include_url=False, include_input=False)
    ]


def _variable_at(place: tuple[int | str, ...]) -> str:
    """The variable that an error is about, and where in it; nothing where it is about several."""
    name, *within = map(str, place or ("",))
    known = variable(name) if name in Settings.model_fields else name
    return ".".join([known, *(part for part in within if part != "[key]")])


_HEAD = f"""# Configuration

Made by `tickview config --markdown` from `infra/settings/settings.py`; do not edit.

Settings are environment variables. `tickview config` prints those in effect, secrets hidden, and where each came from.
A value that is wrong or contradicts another is refused at start in one line, and so is a variable that begins with
`{PREFIX}` and is none of these. (Kubernetes sets such variables for a Service of the name `tickview`: give it another,
or set `enableServiceLinks: false`.)

| variable | default | values | |
| --- | --- | --- | --- |
"""


def markdown() -> str:
    """The page about the settings."""
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in _rows())


def _rows() -> Iterator[tuple[str, ...]]:
    properties = Settings.model_json_schema(by_alias=False)["properties"]
    for name, field in Settings.model_fields.items():
        default = _shown(field.default)
        about = " ".join((field.description or "").replace("``", "`").split())
        yield f"`{variable(name)}`", f"`{default}`" if default else "–", _values(properties[name]), about


def _values(schema: dict[str, Any]) -> str:
    [schema] = [one for one in schema.get("anyOf", [schema]) if one != {"type": "null"}]
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if schema["type"] == "object":
        return "JSON object"
    if schema["type"] not in ("integer", "number"):
        return {"path": "path", "password": "secret"}.get(
            schema.get("format", ""), "list" if "items" in schema else "text"
        )
    kind = {"integer": "whole number", "number": "number"}[schema["type"]]
    low, high = schema.get("minimum"), schema.get("maximum")
    return kind + ("" if low is None else f", {low:,} or more" if high is None else f", {low:,} to {high:,}")
