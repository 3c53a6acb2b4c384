"""The changes that a commit makes in a read model's store, derived from the result of a fold."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from projections.base import Projection
from projections.fold import FoldResult, Parked
from projections.placement import Placement, placement_of


@dataclass
class Mutations:
    """The changes of one commit to rows, indexes, texts, counts, groups and parked keys.

    Indexes and counts are addressed by their name and a group. The group is empty for an index or a count without
    groups.
    """

    rows: dict[str, bytes | None] = field(default_factory=dict)
    """The new document of each changed row, by key. None: the commit removes the row."""
    index_additions: dict[tuple[str, str], dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    """For each index and group the scores to set, by key."""
    index_removals: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    """For each index and group the keys to remove."""
    texts: dict[str, dict[str, str | None]] = field(default_factory=lambda: defaultdict(dict))
    """For each of the projection's texts the texts to set, by key. None: the text is removed."""
    counts: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """For each count and group the number to add, which may be negative but not 0."""
    groups: dict[str, set[str]] = field(default_factory=dict)
    """All members of each changed group."""
    parked: list[Parked] = field(default_factory=list)
    """The entries to park."""
    tells_rows: bool = True
    """Whether the changes stream carries the documents. Otherwise it carries only the keys."""
    traces: tuple[str, ...] = ()
    """The traces to which the commit belongs, each as a ``traceparent``."""


def derive(projection: Projection[Any, Any], folded: FoldResult) -> Mutations:
    """Derive every change to rows, indexes, texts and counts from the rows before and after a fold."""
    mutations = Mutations(groups=folded.groups, parked=folded.parked, tells_rows=projection.tells_rows)
    for key, evolved in folded.after.items():
        stored = folded.before[key]
        if stored is None and evolved.stored is None:
            continue
        mutations.rows[key] = evolved.document
        before, after = placement_of(projection, stored.row if stored else None), evolved.placement
        if before.indexes != after.indexes:
            _move_in_indexes(projection, mutations, key, before, after)
        if before.texts != after.texts:
            _change_texts(projection, mutations, key, before, after)
        if before.counts != after.counts:
            _move_in_counts(projection, mutations, before, after)
    mutations.counts = {place: change for place, change in mutations.counts.items() if change}
    return mutations


def _move_in_indexes(
    projection: Projection[Any, Any], mutations: Mutations, key: str, before: Placement, after: Placement
) -> None:
    additions, removals = mutations.index_additions, mutations.index_removals
    for index, old, new in zip(projection.indexes, before.indexes, after.indexes, strict=True):
        if old == new:
            continue
        if old is not None and (new is None or old[0] != new[0]):
            removals[index.name, old[0]].append(key)
        if new is not None:
            additions[index.name, new[0]][key] = new[1]


def _change_texts(
    projection: Projection[Any, Any], mutations: Mutations, key: str, before: Placement, after: Placement
) -> None:
    for name, old, new in zip(projection.texts, before.texts, after.texts, strict=True):
        if old != new:
            mutations.texts[name][key] = new


def _move_in_counts(
    projection: Projection[Any, Any], mutations: Mutations, before: Placement, after: Placement
) -> None:
    changes = mutations.counts
    for count, old, new in zip(projection.counts, before.counts, after.counts, strict=True):
        if old == new:
            continue
        if old is not None:
            changes[count.name, old] -= 1
        if new is not None:
            changes[count.name, new] += 1
