"""The schema of an event type, in the form in which golden files keep it."""

from typing import Any

from domain.events import Event


def schema_of(event_type: type[Event]) -> dict[str, Any]:
    """Return the JSON schema of an event type without titles and descriptions, which are no part of the stored form."""
    schema: dict[str, Any] = _without_prose(event_type.model_json_schema())
    return schema


def _without_prose(node: Any) -> Any:
    if isinstance(node, dict):
        prose = ("title", "description")
        return {
            key: _without_prose(value) for key, value in node.items() if not (key in prose and isinstance(value, str))
        }
    return [_without_prose(item) for item in node] if isinstance(node, list) else node
