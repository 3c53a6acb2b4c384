"""What has changed between the catalogue that is known and the one that was read, as events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from domain.events import Event, SymbolChanged, SymbolDelisted, SymbolListed, UniverseChanged, UniverseDefined
from infra.catalogue.parsing import SourceRows, SymbolEntry, UniverseEntry
from projections.symbols import DETAILS, SymbolRow
from projections.universes import UniverseRow

SOURCE = "catalogue"
"""The source of its events."""


@dataclass
class Changes:
    """The events, and how many entries there are of each kind."""

    counts: dict[str, int]
    events: list[Event] = field(default_factory=list)

    def add(self, kind: str, event_type: type[Event], follows: str, now: float, **said: Any) -> None:
        """An event, known by what it says and by the event that it follows, so that two who see it record it once."""
        identity = orjson.dumps([event_type.__name__, said, follows], option=orjson.OPT_SORT_KEYS)
        event_id = "catalogue-" + sha256(identity).hexdigest()[:32]
        self.events.append(event_type(event_id=event_id, occurred_at=now, source=SOURCE, **said))
        self.counts[kind] += 1


def symbol_changes(known: Mapping[str, SymbolRow], found: SourceRows[SymbolEntry], now: float) -> Changes:
    """What to record of symbols at ``now``, in epoch seconds.

    A symbol that the source no longer has, or has as not active, is delisted; one of which a row is refused is left as
    it is. A symbol that was never known and is not active is passed over.
    """
    changes = Changes(dict.fromkeys(("listed", "changed", "delisted", "unchanged"), 0))
    changes.counts["refused"] = len(found.refused)
    for symbol, entry in found.entries.items():
        row = known.get(symbol)
        follows = row.event_id if row else ""
        said = {"symbol": symbol, **entry.details}
        if not entry.active and row and row.active:
            changes.add("delisted", SymbolDelisted, follows, now, symbol=symbol)
        elif entry.active and not (row and row.active):
            changes.add("listed", SymbolListed, follows, now, **said)
        elif entry.active and row and any(getattr(row, name) != entry.details[name] for name in DETAILS):
            changes.add("changed", SymbolChanged, follows, now, **said)
        else:
            changes.counts["unchanged"] += 1
    kept = found.entries.keys() | {refused.subject for refused in found.refused}
    for symbol, row in known.items():
        if row.active and symbol not in kept:
            changes.add("delisted", SymbolDelisted, row.event_id, now, symbol=symbol)
    return changes


def universe_changes(known: Mapping[str, UniverseRow], found: SourceRows[UniverseEntry], now: float) -> Changes:
    """What to record of universes at ``now``, in epoch seconds; one that the source no longer has is left as it is."""
    changes = Changes(dict.fromkeys(("defined", "changed", "unchanged", "missing"), 0))
    changes.counts["refused"] = len(found.refused)
    for key, entry in found.entries.items():
        row = known.get(key)
        if row is None:
            changes.add("defined", UniverseDefined, "", now, **entry._asdict())
        elif (row.name, row.description, row.symbols) != (entry.name, entry.description, entry.symbols):
            changes.add("changed", UniverseChanged, row.event_id, now, **entry._asdict())
        else:
            changes.counts["unchanged"] += 1
    changes.counts["missing"] = len(known.keys() - found.entries.keys())
    return changes
