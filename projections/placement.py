"""The placement of a row: its entries in the indexes, its sorted texts and its groups in the counts of a projection."""

from math import isnan
from typing import Any, NamedTuple

from projections.base import Projection


class Placement(NamedTuple):
    """The index entries, the texts and the count groups of one row, in the order of the projection's declarations."""

    indexes: tuple[tuple[str, float] | None, ...]
    """For each index the group and the score. The group is empty for an index without groups. None: no entry."""
    texts: tuple[str | None, ...]
    """For each of the projection's texts the text. None: the row has no text."""
    counts: tuple[str | None, ...]
    """For each count the group. The group is empty for a count without groups. None: the row is not counted."""


def placement_of(projection: Projection[Any, Any], row: Any) -> Placement:
    """Apply the projection's declarations to a row. The placement of None has no entries.

    Raises:
        ValueError: A score is not a number (NaN), which no index can order.
    """
    if row is None:
        absent = (len(projection.indexes), len(projection.texts), len(projection.counts))
        return Placement(*((None,) * number for number in absent))
    indexes: list[tuple[str, float] | None] = []
    for name, score_of, group_of in projection.indexes:
        score, group = score_of(row), group_of(row) if group_of else ""
        if score is not None and isnan(score):
            raise ValueError(f"the score of the row in the index {name} is not a number (NaN)")
        indexes.append(None if score is None or group is None else (group, score))
    counts: list[str | None] = []
    for _, by, where in projection.counts:
        counts.append(None if where and not where(row) else by(row) if by else "")
    return Placement(tuple(indexes), tuple([text_of(row) for text_of in projection.texts.values()]), tuple(counts))
