"""The query parameters of the endpoints of a read model: filters, order, page, moment and members of the rows."""

from collections.abc import Collection, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, ValidationInfo, field_validator

from projections.queries import AnyProjection, Query, Timeline
from projections.views import Member, View
from readapi.http.cursors import Order, PageRequest, decode_cursor
from readapi.http.parameters import ListOf, PageNumber, PageSize, Parameters, SortOrder, derive_parameters
from readapi.read_models.filter_parameters import ParameterFields, filter_fields, filters_of
from readapi.read_models.moment_parameters import MomentParameters
from readapi.read_models.rendering import all_columns, row_members

MAX_CURSOR_LENGTH = 3_000
"""Highest number of characters of a cursor. The longest names and keys take 6 bytes of JSON for each character."""

CursorText = Annotated[
    str, StringConstraints(max_length=MAX_CURSOR_LENGTH), Field(json_schema_extra={"format": "cursor"})
]


class PageParameters(Parameters):
    """Order, page and members. The model of a read model adds its filters, its columns and its views."""

    projection: ClassVar[AnyProjection]
    all_columns: ClassVar[View]

    sort_by: str | None = None
    sort_order: SortOrder | None = None
    page: PageNumber | None = None
    """Page number, from 1. Page numbers reach the first 10,000 rows. Use ``cursor`` beyond."""
    per_page: PageSize | None = None
    """Rows per page. 30 if it is missing."""
    cursor: CursorText | None = None
    """The value of ``next`` on the previous page, in place of ``page``. Deep pages cost no more than the first page."""
    fields: tuple[str, ...] | None = None

    @field_validator("cursor")
    @classmethod
    def _check_cursor(cls, cursor: str | None, others: ValidationInfo) -> str | None:
        if cursor is not None:
            if others.data.get("page") is not None:
                raise ValueError("cannot be combined with page")
            if others.data.keys() >= {"sort_by", "sort_order"}:
                decode_cursor(cursor, order_of(cls.projection, others.data["sort_by"], others.data["sort_order"]))
        return cursor

    @property
    def requested_page(self) -> PageRequest:
        """The requested page."""
        order = order_of(self.projection, self.sort_by, self.sort_order)
        return PageRequest(self.page, self.cursor, self.per_page or 30, order)

    @property
    def past(self) -> tuple[Timeline, float] | None:
        """The timeline and the moment in the past. None: this read model answers about the present only."""
        return None

    @property
    def view(self) -> View:
        """The view with the requested members."""
        return self.all_columns if self.fields is None else view_of(self.projection, self.fields)

    def query(self, now: float) -> Query:
        """Make the query for one page. ``now`` is the moment of the query, in epoch seconds."""
        return self.requested_page.query(now, filters_of(self.projection, self.__dict__))


class PastPageParameters(MomentParameters, PageParameters):
    """The parameters of a read model that has a history."""


def page_parameters(projection: AnyProjection, name: str) -> type[PageParameters]:
    """Return the model of the query parameters of the rows of a read model.

    Args:
        projection: The projection of the read model.
        name: The name of the model.
    """
    fields = {**filter_fields(projection), **_order_fields(projection)}
    base: type[PageParameters] = PastPageParameters if projection.history else PageParameters
    model = derive_parameters(base, name, fields)
    model.projection, model.all_columns = projection, all_columns(projection)
    return model


def order_of(projection: AnyProjection, sort_by: str | None, sort_order: SortOrder | None) -> Order:
    """Return the order of rows, with the default order where the request names none."""
    key = sort_by or projection.order or projection.key
    is_descending = sort_by is None and projection.order is not None
    direction: SortOrder = sort_order or ("desc" if is_descending else "asc")
    column = projection.columns.get(key)
    if column is None or not column.sort:
        return Order(key, direction, None, None)
    return Order(key, direction, column.kind, key)


def sort_keys(projection: AnyProjection) -> tuple[str, ...]:
    """Return the names by which rows can be sorted: the columns with sorts, and always the key."""
    columns = tuple(name for name, column in projection.columns.items() if column.sort)
    return columns if projection.key in columns else (projection.key, *columns)


def _order_fields(projection: AnyProjection) -> ParameterFields:
    default = projection.order or projection.key
    return {
        "sort_by": (
            _one_of(sort_keys(projection)) | None,
            Field(
                default=None,
                description=f"Sort key, ``{default}`` if it is missing. Rows with equal values are ordered by key. A "
                "missing value sorts below all others.",
            ),
        ),
        "sort_order": (
            SortOrder | None,
            Field(
                default=None,
                description="Sort order. ``desc`` is the exact reverse of ``asc``. If it is missing: ``asc``, or "
                "``desc`` for the default sort key of numbers.",
            ),
        ),
        "fields": (
            ListOf[_one_of(member_names(projection))] | None,  # type: ignore[misc]
            Field(
                default=None,
                description="Members of each row: names of members"
                + (f", or the views {', '.join(projection.views)}" if projection.views else "")
                + ". All columns if it is missing.",
            ),
        ),
    }


def _one_of(names: tuple[str, ...]) -> Any:
    """Return the type of texts that are one of these names."""
    literal: Any = Literal
    return literal[names]


def member_names(projection: AnyProjection) -> tuple[str, ...]:
    """Return the names that a request can give to ``view_of``: the views, and the members of a row as it is."""
    return tuple(dict.fromkeys((*projection.views, *row_members(projection))))


def view_of(projection: AnyProjection, fields: Collection[str]) -> View:
    """Return the view with the requested members.

    Args:
        projection: The projection of the read model.
        fields: Names of views and of members.
    """
    [first, *others] = fields
    if first in projection.views and not others:
        return projection.views[first]
    return View(**dict(_members(projection, fields)))


def _members(projection: AnyProjection, fields: Collection[str]) -> Iterator[tuple[str, Member]]:
    available = row_members(projection)
    for name in fields:
        if name in projection.views:
            yield from projection.views[name].members.items()
        else:
            yield name, available[name]


def unused_in_download(query: Any) -> list[str]:
    """Return the names of the parameters of a request that do not apply to a download."""
    return [name for name in ("page", "per_page", "cursor") if getattr(query, name) is not None]
