"""Query parameters of the event history: bounds by position or time, page size, cursor and filters."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, ValidationInfo, WithJsonSchema, field_validator

from projections.queries import Positions
from readapi.http.cursors import HIGHEST_POSITION, decode_positions
from readapi.http.parameters import LongName, PageSize, Parameters, parse_iso_8601
from readapi.ports.archive import EventFilter

_POSITION = re.compile("[0-9]{1,15}", re.ASCII)


def parse_bound(value: object) -> int | float:
    """Parse a position (``int``) or a time of recording in epoch seconds (``float``). For use as a validator.

    Raises:
        ValueError: The value is neither. The message is the end of a sentence about the value.
    """
    if not isinstance(value, str):
        raise ValueError("should be one value")
    if _POSITION.fullmatch(value):
        return int(value)
    try:
        return parse_iso_8601(value)
    except ValueError as error:
        raise ValueError(f"should be a position (up to 15 digits) or a time: {error}") from None


def bound_schema(first: int) -> dict[str, Any]:
    """Return the JSON schema of a bound. ``first`` is the lowest position."""
    return {
        "anyOf": [
            {"type": "integer", "minimum": first, "maximum": HIGHEST_POSITION},
            {"type": "string", "format": "moment"},
        ]
    }


Bound = Annotated[
    Annotated[int | float, Field(ge=0, le=HIGHEST_POSITION)],
    BeforeValidator(parse_bound),
    WithJsonSchema(bound_schema(0)),
]
"""A position (``int``), or a time of recording in epoch seconds (``float``)."""


class StreamParameters(Parameters):
    """Bounds and page of an event history."""

    from_: Bound | None = Field(None, alias="from")
    """The first position to include (a whole number, applied to each log), or the earliest time of recording to include
    (ISO 8601; UTC if the time names no zone)."""
    to: Bound | None = None
    """The last position to include (a whole number, applied to each log), or the end of the time of recording, which is
    excluded (ISO 8601; UTC if the time names no zone)."""
    limit: PageSize = 30
    """Highest number of events on the page. A page may have fewer events although more follow: check ``next``."""
    cursor: (
        Annotated[str, StringConstraints(max_length=3_000), Field(json_schema_extra={"format": "cursor"})] | None
    ) = None
    """The value of ``next`` on the previous page."""

    @field_validator("to")
    @classmethod
    def _check_order(cls, to: int | float | None, others: ValidationInfo) -> int | float | None:
        first = others.data.get("from_")
        if type(first) is type(to) and first is not None and to is not None and first > to:
            raise ValueError("should not be before from")
        return to

    @field_validator("cursor")
    @classmethod
    def _check_cursor(cls, cursor: str | None) -> str | None:
        if cursor is not None:
            decode_positions(cursor)
        return cursor

    @property
    def after(self) -> Positions:
        """The positions behind which the page begins."""
        return decode_positions(self.cursor) if self.cursor else {}

    def event_filter(self, **fields: str | None) -> EventFilter:
        """Combine the bounds with further fields of ``EventFilter``."""
        first, last = self.from_, self.to
        return EventFilter(
            **fields,
            from_position=first if isinstance(first, int) else None,
            to_position=last if isinstance(last, int) else None,
            from_time=first if isinstance(first, float) else None,
            to_time=last if isinstance(last, float) else None,
        )


class EventsParameters(StreamParameters):
    """Filters of the event history. An event must pass every given filter."""

    stream: LongName | None = None
    """Name of the stream: ``symbol-AAPL``, ``universe-<key>``, ``backtest-<job id>``, ``source-<name>``,
    ``user-<user id>``, ``log-<log>``, or ``operations`` for the commands of operators."""
    type: LongName | None = None
    """Type of the event, such as ``PatternDetected``; for events that TickView does not define, the whole topic
    (``module:Class``)."""
    source: LongName | None = None
    """Name of the producer."""
    event_id: LongName | None = None
    """Id of the event: the producer's id, or the id that TickView derived from the content."""
    correlation: LongName | None = None
    """Correlation id (``correlation_id``), which related events share."""
    log: LongName | None = None
    """Name of the log: ``market-0``, ``market-1`` and so on, ``users`` or ``operations``."""
