"""Difference between the recorded catalogue and the source, as events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from domain.events import Event, SymbolChanged, SymbolDelisted, SymbolListed, UniverseChanged, UniverseDefined
from infra.catalogue.parsing import SourceRows, SymbolEntry, UniverseEntry
from projections.symbols import SymbolRow
from projections.universes import UniverseRow

SOURCE = "catalogue"
"""The ``source`` of catalogue events."""


@dataclass
class Changes:
    """The events to record, and the number of entries by kind of change."""

    counts: dict[str, int]
    events: list[Event] = field(default_factory=list)

    def add(self, kind: str, event_type: type[Event], previous_id: str, now: float, **details: Any) -> None:
        """Add an event as ``record`` does, and count it as a change of this kind."""
        self.record(event_type, previous_id, now, **details)
        self.counts[kind] += 1

    def record(self, event_type: type[Event], previous_id: str, now: float, **details: Any) -> Event:
        """Add an event.

        The event id is derived from the details and the id of the previous event of the same row. Two processes that
        find the same change therefore record it once.

        Args:
            event_type: The class of the event.
            previous_id: The id of the event that last changed the row. Empty for a new row.
            now: The time of the event, in seconds since the epoch.
            **details: The fields of the event.

        Returns:
            The event.
        """
        identity = orjson.dumps([event_type.__name__, details, previous_id], option=orjson.OPT_SORT_KEYS)
        event_id = "catalogue-" + sha256(identity).hexdigest()[:32]
        event = event_type(event_id=event_id, occurred_at=now, source=SOURCE, **details)
        self.events.append(event)
        return event


def symbol_changes(recorded: Mapping[str, SymbolRow], source: SourceRows[SymbolEntry], now: float) -> Changes:
    """Compare the symbols of the source with the recorded symbols.

    A recorded symbol that is missing or inactive in the source is delisted. A symbol whose row is refused stays
    unchanged. An inactive symbol that was never recorded is listed and delisted at once.

    Args:
        recorded: The rows of the read model ``symbols``.
        source: The symbols of the source.
        now: The time of the events, in seconds since the epoch.
    """
    changes = Changes(dict.fromkeys(("listed", "inactive", "changed", "delisted", "unchanged"), 0))
    changes.counts["refused"] = len(source.refused)
    for symbol, entry in source.entries.items():
        _compare_symbol(changes, recorded.get(symbol), entry, now)
    in_source = source.entries.keys() | {refused.subject for refused in source.refused}
    for symbol, row in recorded.items():
        if row.active and symbol not in in_source:
            changes.add("delisted", SymbolDelisted, row.event_id, now, symbol=symbol)
    return changes


def _compare_symbol(changes: Changes, row: SymbolRow | None, entry: SymbolEntry, now: float) -> None:
    """Add the events that turn a row into an entry of the source, and count the change."""
    details = {"symbol": entry.symbol, **entry.details}
    differs = row is not None and any(getattr(row, name) != value for name, value in entry.details.items())
    previous_id = row.event_id if row else ""
    if entry.active and not (row and row.active):
        changes.add("listed", SymbolListed, previous_id, now, **details)
    elif entry.active or (row and not row.active):
        if differs:
            changes.add("changed", SymbolChanged, previous_id, now, **details)
        else:
            changes.counts["unchanged"] += 1
    else:
        if row is None or differs:
            previous_id = changes.record(SymbolChanged if row else SymbolListed, previous_id, now, **details).event_id
        changes.add("delisted" if row else "inactive", SymbolDelisted, previous_id, now, symbol=entry.symbol)


def universe_changes(recorded: Mapping[str, UniverseRow], source: SourceRows[UniverseEntry], now: float) -> Changes:
    """Compare the universes of the source with the recorded universes.

    A recorded universe that is missing in the source stays unchanged.

    Args:
        recorded: The rows of the read model ``universes``.
        source: The universes of the source.
        now: The time of the events, in seconds since the epoch.
    """
    changes = Changes(dict.fromkeys(("defined", "changed", "unchanged", "missing"), 0))
    changes.counts["refused"] = len(source.refused)
    for key, entry in source.entries.items():
        row = recorded.get(key)
        if row is None:
            changes.add("defined", UniverseDefined, "", now, **entry._asdict())
        elif any(getattr(row, name) != value for name, value in entry._asdict().items()):
            changes.add("changed", UniverseChanged, row.event_id, now, **entry._asdict())
        else:
            changes.counts["unchanged"] += 1
    changes.counts["missing"] = len(recorded.keys() - source.entries.keys())
    return changes
