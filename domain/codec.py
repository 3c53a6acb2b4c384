"""Serialization of events: from an event to stored bytes and back, through every schema version ever written."""

from functools import cache
from typing import Any

import orjson

from domain.errors import TickViewError
from domain.event_types import EVENT_TYPES
from domain.events import Event
from domain.operation_events import OPERATION_EVENT_TYPES
from domain.user_events import USER_EVENT_TYPES

TOPIC_PREFIX = "domain.events:"
"""The prefix of every stored topic. It is part of the stored data and does not follow the module of the class."""


ENCRYPTED_PREFIX = b'{"encrypted":'
"""The first bytes of every encrypted state. A state that ``encode`` wrote begins with another field."""


_NOT_IN_STATE = {"event_id"}


class UnknownEventTypeError(TickViewError, ValueError):
    """The stored topic names no event type of this version of TickView."""


@cache
def topic_of(event_type: type[Event]) -> str:
    """Return the topic under which events of this type are stored.

    The topic does not depend on the module that defines the class.
    """
    return TOPIC_PREFIX + event_type.__name__


def encode(event: Event) -> bytes:
    """Serialize an event to its stored state: JSON without the event id, which the log stores separately."""
    # ``model_dump_json`` takes a third longer, because it makes a text of the bytes.
    state = event.__pydantic_serializer__.to_json(event, exclude=_NOT_IN_STATE, exclude_defaults=True)
    if event.class_version > 1:
        return b'%b,"class_version":%d}' % (state[:-1], event.class_version)
    return state


def is_encrypted(state: bytes) -> bool:
    """Return whether a stored state is encrypted with the key of a user."""
    return state.startswith(ENCRYPTED_PREFIX)


def decode(topic: str, event_id: str, state: bytes) -> Event:
    """Restore an event from its stored state and upcast it to the schema version of this code.

    Args:
        topic: The stored topic, ``domain.events:<class name>``.
        event_id: The event id, which the log stores separately from the state.
        state: The JSON that ``encode`` wrote.

    Returns:
        The event in the current schema version of its class.

    Raises:
        UnknownEventTypeError: The topic names no event type of this version of TickView.
        ValueError: The state does not fit the event type, a newer version of TickView wrote it, or it is encrypted.
    """
    name = topic.removeprefix(TOPIC_PREFIX)
    event_type = EVENT_TYPES.get(name) or USER_EVENT_TYPES.get(name) or OPERATION_EVENT_TYPES.get(name)
    if event_type is None:
        raise UnknownEventTypeError(
            f"{topic} is not an event type of this version of TickView. Run the version that recorded the event, "
            "or install the plug-in that defines its type."
        )
    if is_encrypted(state):
        raise ValueError("the state is encrypted, and the key of the user is missing or does not fit")
    fields: Any = orjson.loads(state)
    version = fields.pop("class_version", 1) if isinstance(fields, dict) else None
    if type(version) is not int:
        raise ValueError(f"{topic} is stored in a state that is no JSON object with a whole number as class_version")
    if version > event_type.class_version:
        raise ValueError(
            f"{topic} is stored in schema version {version}, but this version of TickView reads it only up to "
            f"version {event_type.class_version}. Upgrade TickView."
        )
    while version < event_type.class_version:
        getattr(event_type, f"upcast_v{version}_v{version + 1}")(fields)
        version += 1
    fields["event_id"] = event_id
    return event_type.model_validate(fields)
