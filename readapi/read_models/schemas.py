"""The types of the documents of rows, for OpenAPI and for downloads, derived from columns and views."""

from collections.abc import Mapping
from dataclasses import dataclass
from inspect import getdoc
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import Field
from typing_extensions import TypedDict

from projections.columns import RowColumn, descriptions_of
from projections.queries import AnyProjection
from projections.views import Converted, Elapsed, Member, Provenance, Remaining, RowKey, View


@dataclass(frozen=True)
class MemberType:
    """The type of a member of a document."""

    type: Any
    """The type, which includes None if the value can be missing."""
    description: str

    @property
    def value_type(self) -> Any:
        """The type of a present value."""
        base = self.type
        while get_args(base) and hasattr(base, "__metadata__"):
            base = get_args(base)[0]
        present = [member for member in get_args(base) if member is not NoneType]
        return present[0] if present and NoneType in get_args(base) else base


def member_types(projection: AnyProjection, view: View) -> Mapping[str, MemberType]:
    """Return the types of the members of a view."""
    descriptions = descriptions_of(projection.row)
    return {name: _member_type(projection, member, descriptions) for name, member in view.members.items()}


def _member_type(projection: AnyProjection, member: Member, descriptions: Mapping[str, str]) -> MemberType:
    columns = projection.columns
    match member:
        case RowKey():
            return MemberType(str, descriptions.get(projection.key, "Key of the row."))
        case Provenance():
            return MemberType(str, "Log and position of the event that last changed the row, such as ``market-0=17``.")
        case Converted(column, convert):
            return MemberType(_nullable(get_type_hints(convert)["return"], columns[column]), _first_line(convert))
        case Elapsed(column):
            description = descriptions.get(column, "")
            return MemberType(_nullable(str, columns[column]), f"Elapsed time, such as ``5m``. {description}")
        case Remaining(column):
            description = descriptions.get(column, "")
            return MemberType(_nullable(str, columns[column]), f"Remaining time, such as ``55m``. {description}")
    unit = columns[member].declared.unit
    description = descriptions.get(member, "")
    return MemberType(columns[member].type, f"{description} Unit: {unit}." if unit else description)


def _nullable(value_type: Any, column: RowColumn) -> Any:
    return value_type | None if column.nullable else value_type


def _first_line(function: Any) -> str:
    return (getdoc(function) or "").partition("\n")[0]


def document_type(projection: AnyProjection, view: View, name: str, *, is_complete: bool = True) -> Any:
    """Return the type of the documents of a view.

    Args:
        projection: The projection of the read model.
        view: The view.
        name: The name of the type.
        is_complete: Whether every document has all members.
    """
    members = {
        member: Annotated[described.type, Field(description=described.description)]
        for member, described in member_types(projection, view).items()
    }
    return TypedDict(name, members, total=is_complete)  # type: ignore[operator]


class ColumnDocument(TypedDict):
    """A column of a read model.

    ``type`` is ``text``, ``number``, ``boolean`` or ``json``. ``filters`` has the names of the parameters that filter
    by the column. ``sort`` tells whether rows can be sorted by the column. ``count`` is the name of the count of rows
    by value. ``values`` has the values that are always known.
    """

    name: str
    type: str
    nullable: bool
    unit: str | None
    description: str
    filters: list[str]
    sort: bool
    count: str | None
    values: list[str] | None


def column_documents(projection: AnyProjection) -> list[ColumnDocument]:
    """Describe the columns of a read model for clients."""
    descriptions = descriptions_of(projection.row)
    return [
        ColumnDocument(
            name=name,
            type=column.kind,
            nullable=column.nullable,
            unit=column.declared.unit,
            description=descriptions.get(name, ""),
            filters=_filters(name, column),
            sort=column.sort,
            count=column.count if column.equality else None,
            values=list(column.values) or None,
        )
        for name, column in projection.columns.items()
    ]


def _filters(name: str, column: RowColumn) -> list[str]:
    return [*([name] if column.equality else []), *([f"{name}_min", f"{name}_max"] if column.range else [])]
