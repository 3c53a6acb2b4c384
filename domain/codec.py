"""Events to stored bytes and back, through every schema version ever written."""

from functools import cache
from typing import Any

import orjson

from domain.errors import TickViewError
from domain.events import EVENT_TYPES, Event
from domain.user_events import USER_EVENT_TYPES

TOPIC_PREFIX = "domain.events:"

KNOWN_TYPES: dict[str, type[Event]] = {**EVENT_TYPES, **USER_EVENT_TYPES}
"""Every event type by its name, whatever the log."""


class UnknownEventTypeError(TickViewError, ValueError):
    """The stored topic names no event type of this code."""


@cache
def topic_of(event_type: type[Event]) -> str:
    """The topic under which events of this type are stored: the same wherever in ``domain`` their class is."""
    return TOPIC_PREFIX + event_type.__name__


def encode(event: Event) -> bytes:
    """The stored state of an event: JSON without its id, which the log keeps beside it."""
    state = event.model_dump(exclude={"event_id"}, exclude_defaults=True)
    if event.class_version > 1:
        state["class_version"] = event.class_version
    return orjson.dumps(state)


def decode(topic: str, event_id: str, state: bytes) -> Event:
    """The event that was stored, upcast to the schema version of this code.

    Raises UnknownEventTypeError for a foreign topic, ValueError for a state that does not fit the event type
    or was written by a newer version of it.
    """
    event_type = KNOWN_TYPES.get(topic.removeprefix(TOPIC_PREFIX))
    if event_type is None:
        raise UnknownEventTypeError(f"{topic} is not an event type of this version of TickView")
    fields: dict[str, Any] = orjson.loads(state)
    version: int = fields.pop("class_version", 1)
    if version > event_type.class_version:
        raise ValueError(
            f"{topic} was stored as version {version}, this code knows it up to {event_type.class_version}"
        )
    while version < event_type.class_version:
        getattr(event_type, f"upcast_v{version}_v{version + 1}")(fields)
        version += 1
    fields["event_id"] = event_id
    return event_type.model_validate(fields)
