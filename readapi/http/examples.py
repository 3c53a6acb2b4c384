"""Examples of bodies for the OpenAPI document, made from JSON schemas and the values of ``EXAMPLE_VALUES``."""

import re
from collections.abc import Mapping
from typing import Any

from readapi.http.example_values import EXAMPLE_VALUES, KEYS

Schema = Mapping[str, Any]

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
_SIMPLE: Mapping[str, Any] = {"string": "text", "number": 1.5, "integer": 1, "boolean": True, "null": None}


def example_of(schema: Schema, components: Mapping[str, Schema], name: str = "", owner: str = "") -> Any:
    """Make an example that conforms to a schema.

    Args:
        schema: The schema.
        components: The schemas to which references refer, by name.
        name: The name of the member that the schema describes.
        owner: The title of the schema of the object that has the member.
    """
    for candidate in EXAMPLE_VALUES.get(f"{owner}.{name}", EXAMPLE_VALUES.get(name, ())):
        if _fits(candidate, schema):
            return candidate
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components, name, owner)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], components, name, owner)
    match schema.get("type"):
        case "object":
            return _object(schema, components, name)
        case "array":
            return [example_of(schema["items"], components, name.removesuffix("s"))]
        case None:
            return {}
        case kind:
            return _SIMPLE[kind]


def _object(schema: Schema, components: Mapping[str, Schema], name: str) -> dict[str, Any]:
    title = schema.get("title", "")
    members = {
        member: example_of(described, components, member, title)
        for member, described in schema.get("properties", {}).items()
    }
    values = schema.get("additionalProperties")
    if isinstance(values, dict):
        members[KEYS.get(name, "key")] = example_of(values, components)
    return members


def _fits(value: Any, schema: Schema) -> bool:
    """Return whether a value of ``EXAMPLE_VALUES`` conforms to a schema without references."""
    if "anyOf" in schema:
        return any(_fits(value, variant) for variant in schema["anyOf"])
    if "$ref" in schema or value not in schema.get("enum", [value]) or value != schema.get("const", value):
        return False
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, _TYPES[kind]) or isinstance(value, bool) != (kind == "boolean")):
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, list):
        return all(_fits(item, schema.get("items", {})) for item in value)
    if isinstance(value, dict):
        others = schema.get("additionalProperties")
        is_map = "properties" not in schema
        return is_map and (not isinstance(others, dict) or all(_fits(item, others) for item in value.values()))
    return True
