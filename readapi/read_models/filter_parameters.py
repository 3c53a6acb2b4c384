"""The filters of a read model as query parameters, derived from the declarations of its columns.

A column with equality filters has the parameter ``<column>``, a list. A column with range filters has the parameters
``<column>_min`` and ``<column>_max``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import inf
from typing import Any, Literal, NamedTuple

from pydantic import Field

from projections.columns import RowColumn, descriptions_of
from projections.queries import AnyProjection, Equality, Filter, Range
from readapi.http.parameters import ListedKey, ListOf, Moment, Name, Number
from readapi.http.problems import invalid

ParameterFields = dict[str, Any]
"""The name of each parameter with its type and its default, as ``create_model`` expects them."""


def filter_fields(projection: AnyProjection) -> ParameterFields:
    """Return the parameters that filter the rows of a read model."""
    descriptions = descriptions_of(projection.row)
    parameters: ParameterFields = {}
    if _has_separate_key_filter(projection):
        parameters[projection.key] = _optional(ListOf[ListedKey], "Keys of the rows.")
    for name, column in projection.columns.items():
        description = descriptions.get(name, "")
        if column.equality:
            parameters[name] = _optional(_list_type(column), f"{description} Rows with one of the values match.")
        if column.range:
            bound = Moment if column.is_moment else Number
            parameters[f"{name}_min"] = _optional(bound, f"Lowest value. {description}")
            parameters[f"{name}_max"] = _optional(bound, f"Highest value. {description}")
    return parameters


def _has_separate_key_filter(projection: AnyProjection) -> bool:
    """Return whether rows are filtered by their keys although no column has this filter."""
    column = projection.columns.get(projection.key)
    return column is None or not column.equality


def _optional(annotation: Any, description: str) -> tuple[Any, Any]:
    return annotation | None, Field(default=None, description=description)


def _list_type(column: RowColumn) -> Any:
    if column.kind == "boolean":
        return ListOf[Literal["true", "false"]]
    return ListOf[Number] if column.kind == "number" else ListOf[Name]


def filters_of(projection: AnyProjection, parameters: Mapping[str, Any]) -> tuple[Filter, ...]:
    """Return the filters of a query.

    Args:
        projection: The projection of the read model.
        parameters: The validated parameters by name. Other parameters than those of ``filter_fields`` are ignored.

    Raises:
        Problem: 400, the highest value of a column is below its lowest value.
    """
    get, filters = parameters.get, list[Filter]()
    for name, group, lower_bound, upper_bound in _filterable(projection, frozenset(parameters)):  # type: ignore[arg-type]
        if group and (values := get(name)) is not None:
            filters.append(Equality(name, frozenset(map(group, values))))
        lowest, highest = get(lower_bound), get(upper_bound)
        if lowest is None and highest is None:
            continue
        if lowest is not None and highest is not None and lowest > highest:
            raise invalid([{"field": upper_bound, "reason": f"is below the lowest value, {lowest:g}"}])
        filters.append(Range(name, -inf if lowest is None else lowest, inf if highest is None else highest))
    return tuple(filters)


class _Filterable(NamedTuple):
    """A column with filters."""

    name: str
    group: Callable[[Any], str] | None
    """Returns the group of a value. None: there is no filter by value."""
    lower_bound: str
    """The name of the parameter. Empty: there is no filter by bounds."""
    upper_bound: str


@lru_cache(maxsize=1_000)
def _filterable(projection: AnyProjection, parameters: frozenset[str]) -> Sequence[_Filterable]:
    """Return the columns that some of the parameters filter. Every scan needs them, so that they are cached."""
    filterable = [
        _Filterable(
            name,
            column.group if column.equality else None,
            *((f"{name}_min", f"{name}_max") if column.range else ("", "")),
        )
        for name, column in projection.columns.items()
        if column.equality or column.range
    ]
    if _has_separate_key_filter(projection):
        filterable.insert(0, _Filterable(projection.key, str, "", ""))
    return [each for each in filterable if not parameters.isdisjoint((each.name, each.lower_bound, each.upper_bound))]
