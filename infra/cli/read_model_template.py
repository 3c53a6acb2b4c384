"""The template of a new read model: the latest event of each stream, with every simple field as a column."""

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from domain.events import Event
from projections.columns import descriptions_of

_SIMPLE_TYPES = {str: "str", float: "float", int: "int", bool: "bool"}
_QUERIES = {
    "str": "equality=True",
    "bool": "equality=True",
    "float": "range=True, sort=True",
    "int": "range=True, sort=True",
}
"""Type -> the queries that a new column allows."""


class _Field(NamedTuple):
    """A simple field of the event."""

    name: str
    type: str
    is_optional: bool
    description: str


def read_model_source(name: str, event_type: type[Event]) -> str:
    """Return the source of a read model of the latest event of each stream.

    Args:
        name: The name of the read model, such as ``latest_health``.
        event_type: The event type that the read model folds.
    """
    event, projection = event_type.__name__, _class_name(name)
    fields = list(_fields(event_type))
    columns = "".join(map(_column, fields))
    values = "".join(f"            {field.name}=event.{field.name},\n" for field in fields)
    return f'''"""The read model ``{name}``: the latest {event} of each stream."""

from dataclasses import dataclass, replace
from typing import Annotated

from {event_type.__module__} import {event}
from projections.base import Projection
from projections.columns import EPOCH_SECONDS, Column


@dataclass(frozen=True, slots=True)
class {projection}Row:
    """The latest {event} of one stream, and the number of such events."""

    stream: Annotated[str, Column(sort=True)]
    """Stream of the events."""
    events: Annotated[int, Column(range=True, sort=True)]
    """Number of events, from 1."""
    latest_at: Annotated[float, Column(range=True, sort=True, unit=EPOCH_SECONDS)]
    """Time of the latest event."""
    source: Annotated[str, Column(equality=True)]
    """Name of the producer."""
{columns}

class {projection}(Projection[{projection}Row, {event}]):
    """The projection of the latest {event} of each stream."""

    name = "{name}"
    version = 1
    row = {projection}Row
    key = "stream"
    order = "latest_at"
    handles = ({event},)

    def keys(self, event: {event}) -> tuple[str, ...]:
        """Return the stream of the event."""
        return (event.stream,)

    def evolve(self, row: {projection}Row | None, event: {event}) -> {projection}Row:
        """Count the event, and keep the values of the latest event, also if an earlier event arrives after it."""
        events = row.events + 1 if row else 1
        if row and event.occurred_at < row.latest_at:
            return replace(row, events=events)
        return {projection}Row(
            stream=event.stream,
            events=events,
            latest_at=event.occurred_at,
            source=event.source,
{values}        )
'''  # noqa: S608 the text is Python, not SQL


def specification_source(name: str, event_type: type[Event]) -> str:
    """Return the source of the specification of a read model that ``read_model_source`` wrote."""
    event, projection = event_type.__name__, _class_name(name)
    example = {"event_id": "1", "source": "test", "occurred_at": 1_000.0, **_example(event_type)}
    members = "".join(f"        {member}={_literal(value)},\n" for member, value in example.items())
    return f'''"""The specification of the read model ``{name}``."""

from {event_type.__module__} import {event}
from projections.specification import Given

from {name} import {projection}


def an_event() -> {event}:
    return {event}(
{members}    )


def test_there_are_no_rows_without_events() -> None:
    assert Given({projection}()).rows() == {{}}


def test_the_first_event_of_a_stream_creates_a_row() -> None:
    event = an_event()
    row = Given({projection}()).when(event).row()
    assert (row.stream, row.events, row.latest_at) == (event.stream, 1, event.occurred_at)


def test_a_late_event_counts_but_does_not_replace_the_latest() -> None:
    event = an_event()
    late = event.model_copy(update={{"event_id": "2", "occurred_at": event.occurred_at - 1}})
    row = Given({projection}(), event).when(late).row()
    assert (row.events, row.latest_at) == (2, event.occurred_at)
'''


def is_name_taken(name: str, event_type: type[Event]) -> bool:
    """Return whether the class of a new read model would have the name of a class that its files import."""
    return _class_name(name) in {event_type.__name__, "Annotated", "Column", "Given", "Projection"}


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _class_name(name: str) -> str:
    return "".join(map(str.capitalize, name.split("_")))


def _fields(event_type: type[Event]) -> Iterator[_Field]:
    described = [descriptions_of(cls) for cls in event_type.__mro__ if issubclass(cls, Event)]
    descriptions: Mapping[str, str] = reduce(or_, [dict(each) for each in reversed(described)])
    for name, field in event_type.model_fields.items():
        if name in Event.model_fields or name in ("stream", "events", "latest_at"):
            continue
        base = _base(field.annotation)
        members = [_base(member) for member in get_args(base)] if get_origin(base) in (Union, UnionType) else [base]
        is_literal = get_origin(base) is Literal
        present = [str] if is_literal else [member for member in members if member is not NoneType]
        if len(present) == 1 and present[0] in _SIMPLE_TYPES:
            description = descriptions.get(name, f"Value of the field ``{name}``.")
            description = description.replace("\\", "\\\\").replace('"', '\\"')
            yield _Field(name, _SIMPLE_TYPES[present[0]], not is_literal and NoneType in members, description)


def _base(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _column(field: _Field) -> str:
    declared = f"{field.type} | None" if field.is_optional else field.type
    return f'''    {field.name}: Annotated[{declared}, Column({_QUERIES[field.type]})]
    """{field.description}"""
'''


def _example(event_type: type[Event]) -> dict[str, Any]:
    """Return an example for each required field of the event that ``Event`` does not have."""
    return {
        name: _example_value(name, field.annotation)
        for name, field in event_type.model_fields.items()
        if field.is_required() and name not in Event.model_fields
    }


def _example_value(name: str, annotation: Any) -> Any:
    base = _base(annotation)
    if get_origin(base) is Literal:
        return get_args(base)[0]
    examples: dict[Any, Any] = {str: "AAPL" if name == "symbol" else "example", float: 0.5, int: 1, bool: True}
    return examples.get(base, [] if get_origin(base) is list else {})
