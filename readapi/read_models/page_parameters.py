"""The query parameters of the endpoints of a read model: filters, order, page, moment and members of the rows."""

from collections.abc import Collection, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, ValidationInfo, create_model, field_validator

from projections.queries import AnyProjection, Cursor, Query, Timeline
from projections.views import Member, View
from readapi.http.cursors import Order, decode_cursor
from readapi.http.parameters import ListOf, Moment, PageNumber, PageSize, Parameters, SortOrder
from readapi.read_models.filter_parameters import ParameterFields, filter_fields, filters_of
from readapi.read_models.rendering import all_columns, row_members

CursorText = Annotated[str, StringConstraints(max_length=500), Field(json_schema_extra={"format": "cursor"})]

ROWS_PER_BATCH = 1_000
"""Number of rows per query of a download."""


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

    @field_validator("as_of_valid", check_fields=False)
    @classmethod
    def _check_single_moment(cls, moment: float | None, others: ValidationInfo) -> float | None:
        if moment is not None and others.data.get("as_of") is not None:
            raise ValueError("cannot be combined with as_of")
        return moment

    @property
    def order(self) -> Order:
        """The order of the rows."""
        return order_of(self.projection, self.sort_by, self.sort_order)

    @property
    def page_size(self) -> int:
        """Rows per page."""
        return self.per_page or 30

    @property
    def past(self) -> tuple[Timeline, float] | None:
        """The timeline and the moment in the past, in epoch seconds. None for the present."""
        timelines: tuple[tuple[str, Timeline], ...] = (("as_of", "recorded"), ("as_of_valid", "valid"))
        for name, timeline in timelines:
            moment: float | None = getattr(self, name, None)
            if moment is not None:
                return timeline, moment
        return None

    @property
    def view(self) -> View:
        """The view with the requested members."""
        return self.all_columns if self.fields is None else view_of(self.projection, self.fields)

    def query(self, now: float) -> Query:
        """Make the query for one page. ``now`` is the moment of the query, in epoch seconds."""
        order = self.order
        return Query(
            now,
            filters_of(self.projection, self.__dict__),
            sort_by=order.sort_by if order.kind else None,
            descending=order.sort_order == "desc",
            offset=((self.page or 1) - 1) * self.page_size,
            after=decode_cursor(self.cursor, order) if self.cursor else None,
            limit=self.page_size,
        )

    def batches(self, now: float) -> Query:
        """Make the first query for all rows. ``following`` makes the next queries."""
        return self.query(now)._replace(offset=0, after=None, limit=ROWS_PER_BATCH)


def following(query: Query, end: Cursor | None) -> Query | None:
    """Return the query for the rows behind a page that ends at ``end``. None behind the last page."""
    return query._replace(after=end) if end else None


def page_parameters(projection: AnyProjection, name: str) -> type[PageParameters]:
    """Return the model of the query parameters of the rows of a read model.

    Args:
        projection: The projection of the read model.
        name: The name of the model.
    """
    fields = {**filter_fields(projection), **_order_fields(projection), **_moment_fields(projection)}
    model: type[PageParameters] = create_model(name, __base__=PageParameters, **fields)
    model.projection, model.all_columns = projection, all_columns(projection)
    return model


def order_of(projection: AnyProjection, sort_by: str | None, sort_order: SortOrder | None) -> Order:
    """Return the order of rows, with the default order where the request names none."""
    key = sort_by or projection.order or projection.key
    is_descending = sort_by is None and projection.order is not None
    kind = projection.columns[key].kind if _is_sortable(projection, key) else None
    return Order(key, sort_order or ("desc" if is_descending else "asc"), kind)


def _is_sortable(projection: AnyProjection, name: str) -> bool:
    return name in projection.columns and projection.columns[name].sort


def _order_fields(projection: AnyProjection) -> ParameterFields:
    columns = tuple(name for name, column in projection.columns.items() if column.sort)
    names = columns if projection.key in columns else (projection.key, *columns)
    default = projection.order or projection.key
    return {
        "sort_by": (
            _one_of(names) | None,
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


def _moment_fields(projection: AnyProjection) -> ParameterFields:
    if projection.history is None:
        return {}
    return {
        "as_of": (
            Moment | None,
            Field(
                default=None,
                description="Answer as the read model would have answered at this moment, from the events recorded "
                "until then. ISO 8601 (UTC if there is no offset) or epoch seconds, not in the future. Needs the "
                "archive.",
            ),
        ),
        "as_of_valid": (
            Moment | None,
            Field(
                default=None,
                description="Answer with the rows that were valid at this moment, from all events known now. Same "
                "format as ``as_of``. Needs the archive.",
            ),
        ),
    }


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
