"""The placement of rows: their entries in the indexes, their sorted texts and their counts.

The placement of many rows has the form of the changes that a commit makes: the changes are the difference between the
placements of the rows before and after a batch.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from projections.base import Count, Index, Projection

Place = tuple[str, str]
"""The name of an index or of a count, and a group. The group is empty for an index or a count without groups."""


@dataclass
class Placement:
    """The entries of some rows in the indexes, texts and counts of their projection, and of no other rows."""

    indexes: dict[Place, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    """For each index and group the scores of rows, by key."""
    texts: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """For each of the projection's texts the texts of rows, by key."""
    counts: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    """For each count and group the number of rows."""


def place(projection: Projection[Any, Any], rows: Mapping[str, Any]) -> Placement:
    """Apply the projection's declarations to rows, given by key.

    Raises:
        ValueError: A score is not a number (NaN), which no index can order.
    """
    placement = Placement()
    for index in projection.indexes:
        _place_in_index(placement.indexes, index, rows)
    for name, text_of in projection.texts.items():
        texts = placement.texts[name]
        for key, row in rows.items():
            text = text_of(row)
            if text is not None:
                texts[key] = text
    for count in projection.counts:
        _count(placement.counts, count, rows.values())
    return placement


def _place_in_index(indexes: dict[Place, dict[str, float]], index: Index, rows: Mapping[str, Any]) -> None:
    name, score_of, group_of = index
    for key, row in rows.items():
        score, group = score_of(row), group_of(row) if group_of else ""
        if score is None or group is None:
            continue
        if isnan(score):
            raise ValueError(f"the score of the row {key} in the index {name} is not a number (NaN)")
        indexes[name, group][key] = score


def _count(counts: dict[Place, int], count: Count, rows: Iterable[Any]) -> None:
    name, by, where = count
    for row in rows:
        if where is None or where(row):
            group = by(row) if by else ""
            if group is not None:
                counts[name, group] += 1
