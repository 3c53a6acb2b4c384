"""Loading of plug-ins: find the parts that installed packages and named modules bring, and register them.

An entry point in one of the groups names one part. A module in ``TICKVIEW_PLUGINS`` is searched for the parts that it
defines under names without a leading underscore.
"""

from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, Literal, NamedTuple

from domain.errors import TickViewError
from domain.event_types import check_event_type, register_event_type
from domain.events import Event
from domain.wire.channels import Channel, register_channel
from infra.plugins.schemas import check_schema, schema_path
from infra.processes.errors import StartupError
from projections.base import Projection
from projections.registry import register_projection

Kind = Literal["events", "channels", "projections"]

KINDS: tuple[Kind, ...] = ("events", "channels", "projections")
"""The kinds of parts in the order of their registration: channels and read models need the events.

The group of the entry points of a kind is ``tickview.<kind>``.
"""


class Part(NamedTuple):
    """An event class, a channel, or a projection or its class, with its origin for error messages."""

    kind: Kind
    origin: str
    value: Any


def load_plugins(modules: Iterable[str]) -> None:
    """Register the parts of all installed plug-ins and of the modules. Loading them again changes nothing.

    Args:
        modules: The names of the modules that ``TICKVIEW_PLUGINS`` lists.

    Raises:
        StartupError: A part cannot be imported or does not fit. The message names its origin.
    """
    parts = [*_parts_of_packages(), *(part for name in modules for part in _parts_of_module(name))]
    for part in sorted(parts, key=lambda part: KINDS.index(part.kind)):
        try:
            _register(part)
        except TickViewError as error:
            raise StartupError(f"{part.origin} {error}.") from error
        except Exception as error:
            raise StartupError(f"{part.origin} cannot be used: {_describe(error)}.") from error


def _register(part: Part) -> None:
    match part.kind:
        case "events":
            check_event_type(part.value)
            check_schema(part.value)
            register_event_type(part.value)
        case "channels":
            register_channel(part.value)
        case "projections":
            register_projection(_instance(part.value))


def _instance(value: Any) -> Any:
    """Return the projection of a class, or any other value unchanged."""
    return value() if isinstance(value, type) and issubclass(value, Projection) else value


def _parts_of_packages() -> Iterator[Part]:
    installed = entry_points()  # reads the files of all installed packages
    for kind in KINDS:
        for entry_point in installed.select(group=f"tickview.{kind}"):
            origin = f"The entry point {entry_point.name} in tickview.{kind} ({_package(entry_point)})"
            try:
                value = entry_point.load()
            except Exception as error:
                raise StartupError(f"{origin} cannot be loaded: {_describe(error)}.") from error
            yield Part(kind, f"{origin}: {entry_point.value}", value)


def _package(entry_point: EntryPoint) -> str:
    return f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else entry_point.value


def _parts_of_module(name: str) -> Iterator[Part]:
    try:
        module = import_module(name)
    except Exception as error:
        raise StartupError(f"TICKVIEW_PLUGINS names {name}, which cannot be imported: {_describe(error)}.") from error
    parts = [
        Part(kind, f"{attribute} in {name} (TICKVIEW_PLUGINS)", value)
        for attribute, value in vars(module).items()
        if not attribute.startswith("_") and (kind := _kind_of(value, module))
    ]
    if not parts:
        raise StartupError(f"TICKVIEW_PLUGINS names {name}, which defines no read model, no event and no channel.")
    events = [part.value for part in parts if part.kind == "events"]
    yield from (part for part in parts if not (part.kind == "events" and _is_only_base(part.value, events)))


def _is_only_base(event_type: type[Event], others: Iterable[type[Event]]) -> bool:
    """Return whether other event types derive from a class that is no event type itself: it has no golden schema."""
    derived = [other for other in others if other is not event_type and issubclass(other, event_type)]
    return bool(derived) and not schema_path(event_type, event_type.class_version).is_file()


def _kind_of(value: Any, module: ModuleType) -> Kind | None:
    """Return the kind of a part. None for anything else, and for a class that the module has from another package."""
    if isinstance(value, Channel):
        return "channels"
    if isinstance(value, Projection):
        return "projections"
    if isinstance(value, type) and f"{value.__module__}.".startswith(f"{module.__name__}."):
        return "events" if issubclass(value, Event) else "projections" if issubclass(value, Projection) else None
    return None


def _describe(error: Exception) -> str:
    """Return an error in one line without a full stop, which the message adds."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(".")
