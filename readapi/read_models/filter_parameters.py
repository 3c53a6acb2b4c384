"""The filters of a read model as query parameters, derived from the declarations of its columns.

A column with equality filters has the parameter ``<column>``, a list. A column with range filters has the parameters
``<column>_min`` and ``<column>_max``.
"""

from collections.abc import Callable, Collection, Hashable, Mapping
from functools import lru_cache
from math import inf, isinf
from typing import Any, Literal, NamedTuple, cast

from pydantic import Field

from projections.columns import RowColumn, descriptions_of
from projections.queries import AnyProjection, Equality, Filter, Range
from readapi.http.parameters import ListedKey, ListOf, Moment, Name, Number, TextsOf
from readapi.http.problems import invalid

ParameterFields = dict[str, Any]
"""The name of each parameter with its type and its default, as ``create_model`` expects them."""


AS_THEY_ARE: Mapping[str, float] = {}
"""The shown values of an API that shows a missing number as missing."""


def filter_fields(projection: AnyProjection) -> ParameterFields:
    """Return the parameters that filter the rows of a read model."""
    descriptions = descriptions_of(projection.row)
    parameters: ParameterFields = {}
    if _has_separate_key_filter(projection):
        parameters[projection.key] = _optional(TextsOf[ListedKey], "Keys of the rows.")
    for name, column in projection.columns.items():
        description = descriptions.get(name, "")
        if column.equality:
            parameters[name] = _optional(_list_type(column), f"{description} Rows with one of the values match.")
        if column.range:
            bound = Moment if column.is_moment else Number
            for end, limit in zip(("min", "max"), column.scale, strict=True):
                text = f"{_BOUNDS[end]}{_unlimited(limit)} {description}"
                parameters[f"{name}_{end}"] = _optional(bound, text)
    return parameters


_BOUNDS = {"min": "Lowest value.", "max": "Highest value."}


def _unlimited(limit: float) -> str:
    """Say which bound is no bound."""
    return "" if isinf(limit) else f" {limit:g} is no bound: rows without a value match, too."


def _has_separate_key_filter(projection: AnyProjection) -> bool:
    """Return whether rows are filtered by their keys although no column has this filter."""
    column = projection.columns.get(projection.key)
    return column is None or not column.equality


def _optional(annotation: Any, description: str) -> tuple[Any, Any]:
    return annotation | None, Field(default=None, description=description)


def _list_type(column: RowColumn) -> Any:
    if column.kind == "boolean":
        return ListOf[Literal["true", "false"]]
    if column.kind == "number":
        return ListOf[Number]
    return ListOf[Name] if column.is_closed else TextsOf[Name]


class _ValueParameter(NamedTuple):
    """The parameter with the accepted values of a column."""

    parameter: str
    column: str
    group: Callable[[Any], str]
    """Returns the group of a value."""


class _BoundParameters(NamedTuple):
    """The parameters with the bounds of a column."""

    lowest: str
    highest: str
    column: RowColumn


class FilterParameters:
    """The filters of a read model, read from the values of its parameters.

    Args:
        projection: The projection of the read model.
        aliases: A parameter of ``filter_fields`` -> the parameter that has its place, if it has another name.
        without: The columns whose parameters are not read.
    """

    def __init__(
        self, projection: AnyProjection, aliases: Mapping[str, str] | None = None, without: Collection[str] = ()
    ) -> None:
        names = aliases or {}
        self._values = [
            _ValueParameter(names.get(name, name), name, column.group)
            for name, column in projection.columns.items()
            if column.equality and name not in without
        ]
        if _has_separate_key_filter(projection):
            self._values.append(_ValueParameter(projection.key, projection.key, str))
        self._bounds = [
            _BoundParameters(names.get(f"{name}_min", f"{name}_min"), names.get(f"{name}_max", f"{name}_max"), column)
            for name, column in projection.columns.items()
            if column.range and name not in without
        ]

    def filters(self, parameters: Mapping[str, Any], shown_values: Mapping[str, float] = AS_THEY_ARE) -> list[Filter]:
        """Return the filters of a query.

        Args:
            parameters: The validated parameters by name. Parameters that are no filters are ignored.
            shown_values: Column -> the number that answers show where a row has none.

        Raises:
            Problem: 400, the highest value of a column is below its lowest value.
        """
        get = parameters.get
        filters: list[Filter] = [
            Equality(column, frozenset(map(group, values)))
            for parameter, column, group in self._values
            if (values := get(parameter)) is not None
        ]
        for lowest_name, highest_name, column in self._bounds:
            lowest, highest = get(lowest_name), get(highest_name)
            if lowest is not None or highest is not None:
                filters += range_filters(column, lowest, highest, highest_name, shown_values)
        return filters


def range_filters(
    column: RowColumn,
    lowest: float | None,
    highest: float | None,
    highest_name: str,
    shown_values: Mapping[str, float] = AS_THEY_ARE,
) -> tuple[Range, ...]:
    """Return the filter by bounds, or no filter if every row passes.

    A bound that is None is no bound, and neither is a bound at or beyond the end of the column's scale.

    Args:
        column: The column.
        lowest: The lower bound.
        highest: The upper bound.
        highest_name: The parameter of the upper bound.
        shown_values: Column -> the number that answers show where a row has none. Such a row passes if the number does.

    Raises:
        Problem: 400, the upper bound is below the lower bound.
    """
    if lowest is not None and highest is not None and lowest > highest:
        raise invalid([{"field": highest_name, "reason": f"is below the lowest value, {lowest:g}"}])
    scale_start, scale_end = column.scale
    lower = -inf if lowest is None or lowest <= scale_start else lowest
    upper = inf if highest is None or highest >= scale_end else highest
    if lower == -inf and upper == inf:
        return ()
    shown = shown_values.get(column.name)
    return (Range(column.name, lower, upper, missing_matches=shown is not None and lower <= shown <= upper),)


@lru_cache(maxsize=1_000)
def _filter_parameters(projection: Hashable) -> FilterParameters:
    return FilterParameters(cast("AnyProjection", projection))


def filters_of(
    projection: AnyProjection, parameters: Mapping[str, Any], shown_values: Mapping[str, float] = AS_THEY_ARE
) -> tuple[Filter, ...]:
    """Return the filters of a query, as ``FilterParameters.filters`` does."""
    return tuple(_filter_parameters(cast("Hashable", projection)).filters(parameters, shown_values))
