"""The check of a projection before it is registered: every part is present and of the right kind."""

import re
from dataclasses import fields, is_dataclass
from typing import Any

from domain.errors import TickViewError
from domain.event_types import EVENT_TYPES
from domain.streams import MARKET_LOG, USERS_LOG
from domain.user_events import USER_EVENT_TYPES, UserForgotten
from projections.base import Count, Projection
from projections.row_history import history_refusal
from projections.views import View

POSITION_FIELD = "position"
"""The field of a stored row that holds its position. A row must not have a field of this name."""

_NAME = re.compile("[a-z][a-z0-9_]{0,63}")


class ProjectionError(TickViewError, ValueError):
    """An object cannot be a read model. The message is a clause whose subject is the object."""


def check_projection(projection: Any) -> None:
    """Check that an object is a complete projection.

    Raises:
        ProjectionError: The object is no projection, or a part of it is missing or wrong.
    """
    if not isinstance(projection, Projection):
        raise ProjectionError("is no projection: derive it from projections.base.Projection")
    for part in ("name", "version", "row", "key", "handles"):
        if not hasattr(projection, part):
            raise ProjectionError(f"has no {part}: set the class variable {part}")
    for method in ("keys", "evolve"):
        if getattr(type(projection), method) is getattr(Projection, method):
            raise ProjectionError(f"has no {method}: define the method {method}")
    _check_identity(projection)
    _check_row(projection.row)
    _check_handles(projection)
    _check_counts(projection)
    _check_queries(projection)
    _check_views(projection)
    if refusal := history_refusal(projection):
        raise ProjectionError(refusal)


def _check_identity(projection: Projection[Any, Any]) -> None:
    name, version, family = projection.name, projection.version, projection.family
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ProjectionError(f"has the name {name!r}: expected small letters, digits and _, a letter first")
    if type(version) is not int or version < 1:
        raise ProjectionError(f"has the version {version!r}: expected a whole number from 1")
    if family not in (MARKET_LOG, USERS_LOG):
        raise ProjectionError(f"folds the logs {family!r}: expected {MARKET_LOG!r} or {USERS_LOG!r}")


def _check_row(row: Any) -> None:
    if not (isinstance(row, type) and is_dataclass(row) and row.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        raise ProjectionError("has a row that is no frozen dataclass: decorate its class with @dataclass(frozen=True)")
    if POSITION_FIELD in {field.name for field in fields(row)}:
        raise ProjectionError(
            f"has a row with the field {POSITION_FIELD}, which TickView adds itself: rename the field"
        )


def _check_handles(projection: Projection[Any, Any]) -> None:
    handled = tuple(projection.handles)
    if not handled:
        raise ProjectionError("handles no event: list the event types in the class variable handles")
    known = {**EVENT_TYPES, **USER_EVENT_TYPES}
    for event_type in handled:
        name = getattr(event_type, "__name__", repr(event_type))
        if known.get(name) is not event_type:
            raise ProjectionError(f"handles {name}, which is no registered event type: register the event, too")
    if projection.family == USERS_LOG and UserForgotten not in handled:
        raise ProjectionError("folds the events of users, but not UserForgotten: handle it, and remove the user's rows")


def _check_counts(projection: Projection[Any, Any]) -> None:
    """Check that all counts have a name of their own, the counts by value of columns included."""
    if not isinstance(projection.summaries, tuple) or not all(isinstance(each, Count) for each in projection.summaries):
        raise ProjectionError("has summaries that are no tuple of Count")
    names = [count.name for count in projection.counts]
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ProjectionError(f"has the count {name!r}: expected small letters, digits and _")
        if names.count(name) > 1:
            raise ProjectionError(f"has the count {name} twice: give each count a name of its own")


def _check_queries(projection: Projection[Any, Any]) -> None:
    """Check the key, the order and the end of rows."""
    columns, key, order, ends = projection.columns, projection.key, projection.order, projection.ends
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        raise ProjectionError(f"has the key {key!r}: expected small letters, digits and _, a letter first")
    if order is not None and not (order in columns and columns[order].kind == "number" and columns[order].sort):
        raise ProjectionError(f"has the order {order!r}, which is no column of numbers that allows to sort")
    if ends is not None and not (ends in columns and columns[ends].kind == "number"):
        raise ProjectionError(f"ends rows by {ends!r}, which is no column of numbers")
    if ends is not None and type(projection).expiry is Projection.expiry:
        raise ProjectionError("has rows that end, but no expiry: define the method expiry")


def _check_views(projection: Projection[Any, Any]) -> None:
    """Check that every view shows columns of the row."""
    for name, view in projection.views.items():
        if not isinstance(view, View):
            raise ProjectionError(f"has the view {name!r}, which is no View")
        for column in view.columns:
            if column not in projection.columns:
                raise ProjectionError(f"has the view {name!r} of the column {column!r}, which the row does not have")
