"""The history of a read model: each state of each row with its validity interval.

It has two timelines. The timeline ``recorded`` has the states that TickView knew at a time. The timeline ``valid`` has
the states that TickView knows now about a time. ``docs/as-of.md`` has examples. A unit is a group of rows, or a row
that has no group: every event that can change a row of the unit addresses the unit. ``projections.unit_history`` folds
the events of units into validity intervals.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from domain.streams import MARKET_LOG
from projections.base import Group, Projection
from projections.decoding import DecodedEntry
from projections.queries import AnyProjection, Timeline

TIMELINES: tuple[Timeline, ...] = ("recorded", "valid")
"""All timelines."""

MAX_NAME_BYTES = 63
"""Highest number of bytes in the name of a table or an index in PostgreSQL."""

_NAME = re.compile("[a-z][a-z0-9_]*_history")

_EARLIEST, _LATEST = -62_135_596_800, 253_402_300_799
"""The first and the last second of the years 1 to 9999."""


class ValidityInterval(NamedTuple):
    """A state of a row and the interval in which queries returned the state."""

    key: str
    start: int
    """First moment of the interval, in microseconds since the epoch."""
    end: int | None
    """First moment after the interval, in microseconds since the epoch. None: no end is known."""
    row: Any
    position: int
    """Position of the event that produced the state."""
    document: bytes
    """Row and position, as ``encode_row`` writes them."""


State = tuple[Timeline, ValidityInterval]
"""A state of a row on one timeline."""


class StatePlace(NamedTuple):
    """The place of a state in the history: the timeline, the row, and the event that produced the state."""

    timeline: Timeline
    key: str
    position: int


class HistoryChanges(NamedTuple):
    """How events change a history."""

    ended: list[tuple[StatePlace, int]]
    """States of which only the end of the interval changes, with the new end."""
    removed: list[StatePlace]
    """States that the history must not have any more."""
    added: list[State]

    def extend(self, others: "HistoryChanges") -> None:
        """Add the changes of other rows, or of other timelines."""
        self.ended.extend(others.ended)
        self.removed.extend(others.removed)
        self.added.extend(others.added)


def history_refusal(projection: AnyProjection) -> str | None:
    """Return why a read model cannot have a history, or None if it can. The subject of the text is the projection."""
    history = projection.history
    if history is None:
        return None
    if projection.merges():
        return "has a history, but merges rows of several logs: the history follows each log separately"
    if projection.family != MARKET_LOG:
        return f"has a history, but folds the logs {projection.family!r}: only those of {MARKET_LOG!r} have one"
    if not _NAME.fullmatch(history):
        return f"has the history {history!r}: expected small letters, digits and _, a letter first and _history last"
    indexes = (f"{history}_{column}=" for column in projection.columns)
    for name in (f"{history}_recorded", f"{projection.name}_events", *indexes):
        if len(name.encode()) > MAX_NAME_BYTES:
            return f"has a history, but the name {name!r} in PostgreSQL is longer than {MAX_NAME_BYTES} bytes"
    return None


def microseconds(moment: float) -> int:
    """Round a time in seconds since the epoch to whole microseconds, the resolution of the history.

    A time outside the years 1 to 9999 becomes the nearest of their seconds.
    """
    return round(min(max(moment, _EARLIEST), _LATEST) * 1_000_000)


def by_unit(projection: Projection[Any, Any], entries: Iterable[DecodedEntry]) -> dict[str, list[DecodedEntry]]:
    """Return the entries that address each unit, in order. Each of them addresses rows of this unit only.

    An entry that cannot be decoded addresses no unit.
    """
    units: dict[str, list[DecodedEntry]] = {}
    for decoded in entries:
        if len(decoded.targets) == 1:
            units.setdefault(_unit_of_target(projection, decoded.targets[0]), []).append(decoded)
            continue
        targets: dict[str, list[str | Group]] = {}
        for target in decoded.targets:
            targets.setdefault(_unit_of_target(projection, target), []).append(target)
        for unit, own in targets.items():
            units.setdefault(unit, []).append(decoded._replace(targets=tuple(own)))
    return units


def unit_of(projection: Projection[Any, Any], key: str) -> str:
    """Return the unit of the row with a key."""
    return projection.group_of(key) or key


def _unit_of_target(projection: Projection[Any, Any], target: str | Group) -> str:
    return target.name if isinstance(target, Group) else unit_of(projection, target)
