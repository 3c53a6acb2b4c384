"""The changes that a commit makes in a read model's store, derived from the result of a fold."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from projections.base import Projection
from projections.fold import FoldResult, Parked
from projections.placement import Place, place

Named = TypeVar("Named", Place, str)
Value = TypeVar("Value", float, str)


@dataclass
class Mutations:
    """The changes of one commit to rows, indexes, texts, counts, groups and parked keys."""

    rows: dict[str, bytes | None] = field(default_factory=dict)
    """The new document of each changed row, by key. None: the commit removes the row."""
    index_additions: dict[Place, dict[str, float]] = field(default_factory=dict)
    """For each index and group the scores to set, by key."""
    index_removals: dict[Place, list[str]] = field(default_factory=dict)
    """For each index and group the keys to remove."""
    texts: dict[str, dict[str, str | None]] = field(default_factory=dict)
    """For each of the projection's texts the texts to set, by key. None: the text is removed."""
    counts: dict[Place, int] = field(default_factory=dict)
    """For each count and group the number to add, which may be negative but not 0."""
    groups: dict[str, set[str]] = field(default_factory=dict)
    """All members of each changed group."""
    parked: list[Parked] = field(default_factory=list)
    """The entries to park."""
    tells_rows: bool = True
    """Whether the changes stream carries the documents. Otherwise it carries only the keys."""
    traces: tuple[str, ...] = ()
    """The traces to which the commit belongs, each as a ``traceparent``."""
    packed: Any = None
    """The changes in the form in which the store sends them; None before ``ReadModelStore.prepare``."""


def derive(projection: Projection[Any, Any], folded: FoldResult) -> Mutations:
    """Derive every change to rows, indexes, texts and counts from the rows before and after a fold."""
    before = place(projection, {key: stored.row for key, stored in folded.before.items() if stored})
    after = folded.placement
    mutations = Mutations(groups=folded.groups, parked=folded.parked, tells_rows=projection.tells_rows)
    mutations.rows = {
        key: evolved.document for key, evolved in folded.after.items() if evolved.stored or folded.before[key]
    }
    mutations.index_additions = _additions(before.indexes, after.indexes)
    mutations.index_removals = _removals(before.indexes, after.indexes)
    removed, added = _removals(before.texts, after.texts), _additions(before.texts, after.texts)
    mutations.texts = {
        name: {**dict.fromkeys(removed.get(name, ())), **added.get(name, {})} for name in {**removed, **added}
    }
    mutations.counts = _changes(before.counts, after.counts)
    return mutations


def _additions(
    before: Mapping[Named, Mapping[str, Value]], after: Mapping[Named, dict[str, Value]]
) -> dict[Named, dict[str, Value]]:
    """Return the entries that are new or have another value."""
    additions = {}
    for name, entries in after.items():
        former = before.get(name)
        changed = {key: value for key, value in entries.items() if former.get(key) != value} if former else entries
        if changed:
            additions[name] = changed
    return additions


def _removals(
    before: Mapping[Named, Mapping[str, Value]], after: Mapping[Named, Mapping[str, Value]]
) -> dict[Named, list[str]]:
    """Return the keys that have no entry any more."""
    removals = {}
    for name, entries in before.items():
        present = after.get(name, {})
        removed = [key for key in entries if key not in present]
        if removed:
            removals[name] = removed
    return removals


def _changes(before: Mapping[Place, int], after: Mapping[Place, int]) -> dict[Place, int]:
    """Return the differences of the numbers that are not 0."""
    differences = Counter(after)
    differences.subtract(before)
    return {place: difference for place, difference in differences.items() if difference}
