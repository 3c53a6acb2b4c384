"""The placement of a row: its entries in the indexes and its groups in the counts of a projection."""

from typing import Any, NamedTuple

from projections.base import Projection


class Placement(NamedTuple):
    """The index entries and the count groups of one row, in the order of the projection's declarations."""

    indexes: tuple[tuple[str, float] | None, ...]
    """For each index the group and the score. The group is empty for an index without groups. None: no entry."""
    counts: tuple[str | None, ...]
    """For each count the group. The group is empty for a count without groups. None: the row is not counted."""


def placement_of(projection: Projection[Any, Any], row: Any) -> Placement:
    """Apply the projection's declarations to a row. The placement of None has no entries."""
    if row is None:
        return Placement((None,) * len(projection.indexes), (None,) * len(projection.summaries))
    indexes: list[tuple[str, float] | None] = []
    for index in projection.indexes:
        score, by = index.score(row), index.by
        indexes.append(None if score is None else (by(row) if by else "", score))
    counts: list[str | None] = []
    for count in projection.summaries:
        where, by = count.where, count.by
        counts.append(None if where and not where(row) else by(row) if by else "")
    return Placement(tuple(indexes), tuple(counts))
