"""The registry of the market's event types. TickView's own types and those of plug-ins are registered in the same way.

The event types of users (``domain/user_events.py``) are not open to plug-ins.
"""

from typing import Any

from domain.errors import TickViewError
from domain.events import (
    BacktestCompleted,
    BacktestFailed,
    BacktestProgressed,
    Event,
    HealthReported,
    PatternDetected,
    PatternExpired,
    PatternUpdated,
    PositionLost,
    SymbolChanged,
    SymbolDelisted,
    SymbolListed,
    UndatedExpiry,
    UniverseChanged,
    UniverseDefined,
)
from domain.operation_events import OPERATION_EVENT_TYPES
from domain.user_events import USER_EVENT_TYPES, UserEvent

EVENT_TYPES: dict[str, type[Event]] = {}
"""Every event type of the market log by the name of its class."""


class EventTypeError(TickViewError, ValueError):
    """A class cannot be an event type. The message is a clause whose subject is the class."""


def register_event_type(event_type: type[Event]) -> None:
    """Register an event type under the name of its class. Registering a class again changes nothing.

    Raises:
        EventTypeError: The class is no complete event class, or its name belongs to another class.
    """
    check_event_type(event_type)
    name = event_type.__name__
    known = EVENT_TYPES.get(name) or USER_EVENT_TYPES.get(name) or OPERATION_EVENT_TYPES.get(name)
    if known not in (None, event_type):
        raise EventTypeError(f"has the name {name}, which {known.__module__} already uses: rename the class")
    EVENT_TYPES[name] = event_type


def check_event_type(event_type: Any) -> None:
    """Check that an object is a complete event class.

    Raises:
        EventTypeError: The object is no event class, or a part of the class is missing or wrong.
    """
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise EventTypeError("is no event class: derive it from domain.events.Event")
    if issubclass(event_type, UserEvent):
        raise EventTypeError("is an event of a user's workspace, which plug-ins cannot add: derive it from Event")
    if event_type.stream is Event.stream:
        raise EventTypeError("has no stream: define the property stream, which names the stream of an event")
    if not event_type.model_config.get("frozen"):
        raise EventTypeError("is not frozen: an event is immutable, so do not change its model_config")
    version = event_type.class_version
    if type(version) is not int or version < 1:
        raise EventTypeError(f"has the class_version {version!r}: expected a whole number from 1")
    expected = {f"upcast_v{older}_v{older + 1}" for older in range(1, version)}
    upcasts = {name for name in dir(event_type) if name.startswith("upcast_v")}
    if missing := expected - upcasts:
        raise EventTypeError(f"has the class_version {version}, but not the method {min(missing)}")
    if surplus := upcasts - expected:
        raise EventTypeError(f"has the method {min(surplus)}, but its class_version is {version}")


for _event_type in (
    PatternDetected,
    PatternUpdated,
    PatternExpired,
    UndatedExpiry,
    BacktestProgressed,
    BacktestCompleted,
    BacktestFailed,
    HealthReported,
    SymbolListed,
    SymbolChanged,
    SymbolDelisted,
    UniverseDefined,
    UniverseChanged,
    PositionLost,
):
    register_event_type(_event_type)
