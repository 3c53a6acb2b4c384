"""Columns: the fields of a row with the declaration of the queries that they allow.

A row is a frozen dataclass. The annotation of a field may carry a ``Column``, which says whether rows can be filtered,
sorted and counted by the field. The engine derives indexes, counts and queries from these declarations.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from math import inf
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from domain.errors import TickViewError

EPOCH_SECONDS = "epoch seconds"
"""The unit of points in time."""

LOWEST = float("-inf")
"""The score of a row without a value. It is below every bound, so that range filters exclude the row."""

LOWEST_NUMBER = -sys.float_info.max
"""The lowest number that a row can have. It is above ``LOWEST``."""

Case = Literal["upper", "lower"]
"""The case to which a text is converted before it is compared."""

Kind = Literal["text", "number", "boolean", "json"]
"""The kind of a column's values. Columns of the kind ``json`` cannot be filtered, sorted or counted."""

GroupOf = Callable[[Any], str | None]
"""Returns the group of a row: its value in a column as text. None: the row has no value."""


class ColumnError(TickViewError, TypeError):
    """A column declares a query that its type does not allow."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """The declaration of the queries that a field of a row allows.

    Attributes:
        equality: Whether a filter can select rows by one or several values. Rows are then counted by value, too.
        case: The case in which texts are compared. None: texts must be equal.
        closed: Whether a filter by an unknown value is an error. Otherwise the answer has no rows and a hint. A value
            is known if a row has it, or if ``known`` names it.
        known: Values that are known even while no row has them.
        range: Whether a filter can select rows between two bounds, both included. Only for numbers.
        sort: Whether rows can be sorted by the field. Only for numbers and texts.
        scale: The lowest and the highest number of the field's scale. A bound at an end of the scale excludes no row,
            not even a row without a value.
        count: The name of the count of rows by value. None: ``by_<field>``.
        unit: The unit of a number, such as ``epoch seconds``.
    """

    equality: bool = False
    case: Case | None = None
    closed: bool = False
    known: tuple[str, ...] = ()
    range: bool = False
    sort: bool = False
    scale: tuple[float, float] = (-inf, inf)
    count: str | None = None
    unit: str | None = None


_UNDECLARED = Column()


@dataclass(frozen=True)
class RowColumn:
    """One column of a read model: a field of its row and the declared queries."""

    name: str
    type: Any
    """The annotation of the field, with its constraints."""
    kind: Kind
    nullable: bool
    """Whether rows may lack the value."""
    values: tuple[str, ...]
    """The values that are always known: those of a ``Literal`` type, and the declared ones."""
    declared: Column

    @property
    def equality(self) -> bool:
        """Whether filters by value are allowed."""
        return self.declared.equality

    @property
    def range(self) -> bool:
        """Whether filters by bounds are allowed."""
        return self.declared.range

    @property
    def sort(self) -> bool:
        """Whether rows can be sorted by the column."""
        return self.declared.sort

    @property
    def scale(self) -> tuple[float, float]:
        """The lowest and the highest number of the scale. A bound at an end of the scale excludes no row."""
        return self.declared.scale

    @property
    def is_closed(self) -> bool:
        """Whether a filter by an unknown value is an error."""
        return self.declared.closed

    @property
    def is_moment(self) -> bool:
        """Whether the values are points in time."""
        return self.declared.unit == EPOCH_SECONDS

    @property
    def has_scores(self) -> bool:
        """Whether an index orders the rows by the numbers of the column."""
        return self.kind == "number" and (self.range or self.sort)

    @property
    def has_sorted_texts(self) -> bool:
        """Whether rows can be sorted by the texts of the column."""
        return self.kind == "text" and self.sort

    @property
    def count(self) -> str:
        """The name of the count of rows by value."""
        return self.declared.count or f"by_{self.name}"

    def group(self, value: Any) -> str:
        """Return the text by which rows with this value are grouped. Two values match if their texts are equal."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return str(int(value)) if isinstance(value, int) or value.is_integer() else repr(value)
        return _CASES[self.declared.case](str(value))

    def group_of(self) -> GroupOf:
        """Return the function that returns the group of a row."""
        get, convert = attrgetter(self.name), _CASES[self.declared.case] if self.kind == "text" else self.group
        if not self.nullable:
            return get if convert is str else lambda row: convert(get(row))

        def group_of(row: Any) -> str | None:
            value = get(row)
            return None if value is None else convert(value)

        return group_of

    def folded_of(self) -> GroupOf:
        """Return the function that returns the group of a row if it differs from the row's text, else None."""
        get, group = attrgetter(self.name), self.group

        def folded_of(row: Any) -> str | None:
            value = get(row)
            return None if value is None or (folded := group(value)) == value else folded

        return folded_of

    def score_of(self) -> Callable[[Any], float]:
        """Return the function that returns the score of a row. The score of a missing number is ``LOWEST``."""
        get = attrgetter(self.name)
        if not self.nullable:
            return get

        def score_of(row: Any) -> float:
            value = get(row)
            return LOWEST if value is None else value

        return score_of


_CASES: Mapping[Case | None, Callable[[str], str]] = {None: str, "upper": str.upper, "lower": str.lower}


def columns_of(row: type[Any]) -> Mapping[str, RowColumn]:
    """Return the columns of a row class by name, in the order of its fields.

    Raises:
        ColumnError: A column declares a query that its type does not allow.
    """
    hints = get_type_hints(row, include_extras=True)
    columns = {field.name: _column(field.name, hints[field.name]) for field in fields(row)}
    for column in columns.values():
        _check(row, column)
    return columns


def _column(name: str, annotation: Any) -> RowColumn:
    base, declared = _split(annotation)
    members = get_args(base) if get_origin(base) in (Union, UnionType) else (base,)
    present = [member for member in members if member is not NoneType]
    kind, values = _kind_of(_split(present[0])[0]) if len(present) == 1 else ("json", ())
    return RowColumn(name, annotation, kind, len(present) < len(members), (*values, *declared.known), declared)


def _split(annotation: Any) -> tuple[Any, Column]:
    """Split an annotation into its type and its declaration."""
    if get_origin(annotation) is not Annotated:
        return annotation, _UNDECLARED
    base, *metadata = get_args(annotation)
    return base, next((item for item in metadata if isinstance(item, Column)), _UNDECLARED)


def _kind_of(base: Any) -> tuple[Kind, tuple[str, ...]]:
    if get_origin(base) is Literal:
        return "text", get_args(base)
    kinds: dict[Any, Kind] = {str: "text", bool: "boolean", int: "number", float: "number"}
    return kinds.get(base, "json"), ()


def _check(row: type[Any], column: RowColumn) -> None:
    refused = [
        query
        for query, is_declared, kinds in (
            ("equality", column.equality, ("text", "number", "boolean")),
            ("range", column.range, ("number",)),
            ("sort", column.sort, ("text", "number")),
        )
        if is_declared and column.kind not in kinds
    ]
    if refused:
        raise ColumnError(
            f"Column {column.name} of {row.__name__} has the kind {column.kind}, which does not allow {refused[0]}."
        )


def descriptions_of(row: type[Any]) -> Mapping[str, str]:
    """Return the docstrings of the fields of a row class, without line breaks. A field without docstring is missing.

    The function reads the source of the class. A class that a program has made has no source and no docstrings.
    """
    return _read_descriptions(cast("Hashable", row))


@cache  # The search for the source parses the whole module of the class.
def _read_descriptions(row: Any) -> Mapping[str, str]:
    try:
        source = inspect.getsource(row)
    except (OSError, TypeError):
        return {}
    tree = ast.parse(textwrap.dedent(source))
    [definition] = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    descriptions: dict[str, str] = {}
    for field, following in zip(definition.body, definition.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            descriptions[field.target.id] = " ".join(str(following.value.value).split())
    return descriptions
