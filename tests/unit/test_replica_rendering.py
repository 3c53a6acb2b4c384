"""Documents that a replica encodes in advance: equal to the documents that the view renders."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events import HealthReported
from projections.base import Projection, encode_row
from projections.columns import Column
from projections.patterns import ActivePatterns, PatternRow
from projections.views import Elapsed, Remaining, RowKey, View
from readapi.read_models.rendering import EncodedRows, render
from readapi.replica.replica import Replica
from tests.declarations import KEYS
from tests.pattern_queries import NOW, pattern_rows


@dataclass(frozen=True)
class MovingRow:
    a: float | None
    b: Annotated[float | None, Column(range=True)]
    tags: list[Any]
    ends: float | None


class Moving(Projection[MovingRow, HealthReported]):
    name = "moving"
    version = 1
    row = MovingRow
    handles = (HealthReported,)
    key = "key"
    ends = "ends"


def check_rendering(projection: Projection[Any, Any], rows: Mapping[str, Any], now: float) -> None:
    """Compare the documents of the first view, encoded in advance, with the view's own documents."""
    replica = Replica(projection)
    replica.put("market-1", [(key, encode_row(row, 7)) for key, row in rows.items()])
    [view, *_] = projection.views.values()
    results = asyncio.run(replica.get_many(list(rows), now))
    assert isinstance(results, EncodedRows)
    assert results.encode(view, now) is not None
    assert render(results, view, now) == render(list(results), view, now)


@settings(max_examples=50, deadline=None)
@given(st.lists(pattern_rows, max_size=20), st.sampled_from((899.0, 950.0, NOW, NOW + 0.5, NOW + 90_000, NOW + 1e6)))
def test_compact_documents_are_encoded_in_advance(rows: list[PatternRow], now: float) -> None:
    ends = (None, now + 0.5, now + 59.5, now + 60, now + 3_599, now + 86_399, now + 86_400, now + 1e7)
    check_rendering(
        ActivePatterns(), {row.id: replace(row, expires_at=ends[number % 8]) for number, row in enumerate(rows)}, now
    )


@pytest.mark.parametrize(
    "view",
    [
        View(a="a", key=RowKey(), since=Elapsed("a"), until=Remaining("a"), still=Remaining("ends")),
        View(since=Elapsed("ends"), until=Remaining("b")),
        View(b="b", tags="tags"),
        View(),
    ],
)
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_documents_of_any_view_with_a_moving_end_are_encoded_in_advance(view: View, data: st.DataObject) -> None:
    projection = type("Moving", (Moving,), {"views": {"first": view}})()
    moments = st.one_of(st.none(), st.floats(-1e9, 1e9), st.integers(-100, 100))
    rows = st.builds(MovingRow, moments, moments, st.just(["x", None, {"é": 1}]), st.one_of(st.none(), st.just(1e12)))
    check_rendering(
        projection, data.draw(st.dictionaries(st.sampled_from(KEYS), rows)), data.draw(st.floats(-9e8, 9e8))
    )
