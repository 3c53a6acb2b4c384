"""Views: the forms in which a row is shown.

A view maps names of members to values: a column as it is, a column that a function converts, the time since or until a
moment, or the provenance of the row.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

DAY = 86_400
"""Seconds of one day."""


@dataclass(frozen=True)
class Converted:
    """A member that a function makes from a column. A missing value stays null.

    Attributes:
        column: The column.
        convert: The function. Its return annotation is the type of the member, and its docstring the description.
    """

    column: str
    convert: Callable[[Any], Any]


@dataclass(frozen=True)
class Elapsed:
    """A member with the time since a moment, in its largest whole unit: ``5m``.

    Attributes:
        column: The column of the moment, in epoch seconds.
    """

    column: str


@dataclass(frozen=True)
class Remaining:
    """A member with the time until a moment, in its largest whole unit: ``55m``. A missing moment stays null.

    Attributes:
        column: The column of the moment, in epoch seconds.
    """

    column: str


@dataclass(frozen=True)
class RowKey:
    """A member with the key of the row."""


@dataclass(frozen=True)
class Provenance:
    """A member with the log and the position of the event that last changed the row: ``market-0=17``."""


Member = str | Converted | Elapsed | Remaining | RowKey | Provenance
"""A member of a view. A text is the name of a column whose value is shown as it is."""

Render = Callable[[Any, float], dict[str, Any]]
"""Returns the document of a ``ResultRow`` at the present moment, in epoch seconds."""


class View:
    """A form in which a row is shown.

    Args:
        members: The members by name, in order.
    """

    def __init__(self, **members: Member) -> None:
        self.members: Mapping[str, Member] = members

    @classmethod
    def of_columns(
        cls, row: type[Any], *, without: Collection[str] = (), names: Mapping[str, str] | None = None
    ) -> "View":
        """Return the view of the columns of a row and the provenance.

        Args:
            row: The class of the row.
            without: Columns that the view does not have.
            names: The member of each column whose member has another name than the column.
        """
        columns = [field.name for field in fields(row) if field.name not in without]
        return cls(**{(names or {}).get(column, column): column for column in columns}, position=Provenance())

    def extended(self, **members: Member) -> "View":
        """Return a view with further members."""
        return View(**self.members, **members)

    @cached_property
    def columns(self) -> set[str]:
        """The columns that the members show."""
        shown = (
            member if isinstance(member, str) else getattr(member, "column", None) for member in self.members.values()
        )
        return {column for column in shown if column is not None}

    @cached_property
    def moving(self) -> Mapping[str, Elapsed | Remaining]:
        """The members that change with time."""
        return {name: member for name, member in self.members.items() if isinstance(member, Elapsed | Remaining)}

    @cached_property
    def has_moving_end(self) -> bool:
        """Whether all members that change with time come after all others, and all depend on the row alone."""
        names = list(self.members)
        is_moving = [name in self.moving for name in names]
        return is_moving == sorted(is_moving) and not any(isinstance(m, Provenance) for m in self.members.values())

    @cached_property
    def render(self) -> Render:
        """The function that returns the document of a row.

        Its arguments are a row with its key and its provenance (``projections.queries.ResultRow``), and the moment to
        which times refer, in epoch seconds. The function is compiled from the members like the methods of dataclasses:
        to read the members in a loop takes nearly twice as long.
        """
        names: dict[str, Any] = {"span": span}
        members = ", ".join(f"{name!r}: {_expression(member, names)}" for name, member in self.members.items())
        exec(f"def render(result, now):\n    row = result.row\n    return {{{members}}}", names)  # noqa: S102 see above
        render: Render = names["render"]
        return render


def _expression(member: Member, names: dict[str, Any]) -> str:
    """Return the expression of a member. Functions that it calls get a name in ``names``."""
    match member:
        case RowKey():
            return "result.key"
        case Provenance():
            return 'f"{result.log}={result.position}"'
        case Elapsed(column):
            value = f"span(now - row.{column})"
        case Remaining(column):
            value = f"span(row.{column} - now)"
        case Converted(column, convert):
            function = f"convert_{len(names)}"
            names[function] = convert
            value = f"{function}(row.{column})"
        case column:
            return f"row.{column}"
    return f"None if row.{column} is None else {value}"


def span(seconds: float) -> str:
    """Format a time span in its largest whole unit: ``42s``, ``5m``, ``3h``, ``2d``. A negative span is ``0s``."""
    if seconds < 60:
        return f"{max(int(seconds), 0)}s"
    if seconds < 3_600:
        return f"{int(seconds / 60)}m"
    if seconds < DAY:
        return f"{int(seconds / 3_600)}h"
    return f"{int(seconds / DAY)}d"
