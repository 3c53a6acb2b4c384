"""The replica: pages, counts and rows equal the oracle after any changes, for any declaration, by every strategy."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events import HealthReported
from domain.streams import market_logs
from projections.activity import Activity, ActivityRow
from projections.backtests import BacktestRow, Backtests
from projections.base import Projection, encode_row
from projections.columns import Column
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import MAX_OFFSET, Equality, Query, Range, ResultRow, TooDeepError
from projections.views import Elapsed, Remaining, RowKey, View
from readapi.read_models.rendering import EncodedRows, render
from readapi.replica import columns, lazy_index, scanning
from readapi.replica.replica import Replica
from tests.declarations import KEYS, declarations, queries_of, rows_of
from tests.oracles import rows as oracle
from tests.pattern_queries import NOW, few_or_many_rows, many_rows, one_of, pattern_queries, pattern_rows

changes = st.lists(st.tuples(pattern_rows, st.booleans()), max_size=15)
AnyProjection = type[Projection[Any, Any]]


@pytest.fixture(params=["few rows", "merged runs", "marked columns", "moved rows"])
def search_strategy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Force a way to find rows: few rows one by one; merged runs; marked columns in short steps; no rebuilt orders.

    The last strategy also removes unused values from the dictionaries after every change.
    """
    monkeypatch.setattr(scanning, "MERGED_FRACTION", 1 if request.param == "merged runs" else 1_000_000)
    if request.param in ("marked columns", "moved rows"):
        monkeypatch.setattr(scanning, "SELECTED_ROWS", 0)
        monkeypatch.setattr(scanning, "SELECTED_FRACTION", 1_000_000)
        monkeypatch.setattr(scanning, "MIN_WALKED_ROWS", 2)
    if request.param == "moved rows":
        monkeypatch.setattr(lazy_index, "REBUILD_FRACTION", 1_000_000)
        monkeypatch.setattr(columns, "MAX_VALUES_PER_ROW", 0)


def put(replica: Replica, rows: Mapping[str, Any]) -> None:
    for key, row in rows.items():
        replica.put("market-1", [(key, row and encode_row(row, 7))])


def as_result(key: str, row: Any) -> ResultRow[Any]:
    return ResultRow(row, "market-1", 7, key)


def check_page(projection: AnyProjection, replica: Replica, rows: Mapping[str, Any], query: Query) -> None:
    expected = oracle.page(projection, rows, query)
    page = asyncio.run(replica.page(query))
    # The representation tells 1 from 1.0.
    assert repr(list(page.rows)) == repr([as_result(key, rows[key]) for key in expected.keys])
    assert (page.total, page.end) == (expected.total, expected.end)


def check_counts(projection: AnyProjection, replica: Replica, rows: Mapping[str, Any], now: float) -> None:
    for name, counts in asyncio.run(replica.counts([count.name for count in projection.counts], now)).items():
        assert (list(counts.groups.items()), *counts[1:]) == oracle.counts(projection, rows, name, now)


def check_rows(projection: AnyProjection, replica: Replica, rows: Mapping[str, Any], now: float) -> None:
    present = [key for key in KEYS if key in rows and not oracle.has_ended(projection, rows[key], now)]
    assert list(asyncio.run(replica.get_many(KEYS, now))) == [as_result(key, rows[key]) for key in present]
    for key in KEYS:
        expected = as_result(key, rows[key]) if key in present else None
        assert asyncio.run(replica.get(key, now)) == expected
    assert list(replica.rows()) == [as_result(key, rows[key]) for key in sorted(rows)]
    for key, row in rows.items():
        assert replica.document(key) == encode_row(row, 7)


@pytest.mark.usefixtures("search_strategy")
@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_declaration_is_answered_as_the_oracle_answers(data: st.DataObject) -> None:
    projection = data.draw(declarations())
    replica, rows = Replica(projection()), dict[str, Any]()
    for _ in range(data.draw(st.integers(1, 5))):
        changed: dict[str, Any] = dict.fromkeys(data.draw(st.sets(st.sampled_from(KEYS), max_size=3)))
        changed |= data.draw(rows_of(projection))
        put(replica, changed)
        rows = {key: row for key, row in (rows | changed).items() if row}
        query = data.draw(queries_of(projection))
        check_page(projection, replica, rows, query)
        check_counts(projection, replica, rows, query.now)
        check_rows(projection, replica, rows, query.now)


@pytest.mark.usefixtures("search_strategy")
@settings(max_examples=60, deadline=None)
@given(few_or_many_rows, st.lists(st.tuples(changes, pattern_queries()), min_size=3, max_size=12))
def test_patterns_between_changes_are_answered_as_the_oracle_answers(
    rows: list[PatternRow], steps: list[tuple[list[tuple[PatternRow, bool]], Query]]
) -> None:
    rows_by_id = {row.id: row for row in rows}
    replica = Replica(ActivePatterns())
    put(replica, rows_by_id)
    for changes_of_step, query in steps:
        changed_rows = {row.id: None if removed else row for row, removed in changes_of_step}
        put(replica, changed_rows)
        rows_by_id = {key: row for key, row in (rows_by_id | changed_rows).items() if row}
        check_page(ActivePatterns, replica, rows_by_id, query)
        check_counts(ActivePatterns, replica, rows_by_id, query.now)


@pytest.mark.usefixtures("search_strategy")
@settings(max_examples=60, deadline=None)
@given(few_or_many_rows, pattern_queries())
def test_pages_by_cursor_contain_every_row_in_order(rows: list[PatternRow], query: Query) -> None:
    rows_by_id = {row.id: row for row in rows}
    replica = Replica(ActivePatterns())
    put(replica, rows_by_id)
    query = query._replace(offset=0)
    expected = oracle.page(ActivePatterns, rows_by_id, query._replace(limit=1_000))
    keys: list[str] = []
    while True:
        page = asyncio.run(replica.page(query))
        keys += [result.key for result in page.rows]
        assert page.total == expected.total
        if page.end is None:
            break
        query = query._replace(after=page.end)
    assert keys == expected.keys


def test_queries_of_many_rows_are_answered_as_the_oracle_answers() -> None:
    """Enough rows for every strategy as it is, with many ties."""
    rows = many_rows(30_000)
    replica = Replica(ActivePatterns())
    put(replica, rows)
    half, strong = Range("confidence", 0.5), Range("relative_strength", 0.4)
    loud = Range("relative_volume", 0.1)
    for query in (
        Query(NOW, (half,), "confidence", descending=True),
        Query(NOW, (half, strong), "confidence", descending=True),
        Query(NOW, (half, strong, loud), "relative_strength", descending=True, offset=60),
        Query(NOW, (half, Range("rsi", 20, 70), loud), "relative_volume"),
        Query(NOW, (Range("confidence", 0.9, 0.95), one_of("tier", "daily")), "confidence"),
        Query(NOW, (one_of("symbol", *(f"S{number}" for number in range(500))), half), "confidence", descending=True),
        Query(NOW, (Range("confidence", 0.999), Range("relative_strength", 0.999)), "confidence"),
        Query(NOW, (Equality("id", frozenset(list(rows)[::100])), half), "detected_at"),
        Query(NOW, (Equality("id", frozenset(list(rows)[::2])), half), "detected_at"),
        Query(NOW, (), "symbol", offset=MAX_OFFSET),
        Query(NOW, offset=MAX_OFFSET),
    ):
        check_page(ActivePatterns, replica, rows, query)


def test_values_that_no_row_has_any_more_are_forgotten() -> None:
    replica = Replica(ActivePatterns())
    [row] = many_rows(1).values()
    sizes: list[int] = []
    for first in range(0, 20_000, 1_000):
        texts = {str(number): replace(row, symbol=f"S{number}") for number in range(first, first + 1_000)}
        put(replica, texts)
        put(replica, dict.fromkeys(texts))
        sizes.append(replica.nbytes)
    assert max(sizes) == max(sizes[:4])


def test_a_too_deep_page_is_refused_only_if_it_has_rows() -> None:
    replica = Replica(ActivePatterns())
    put(replica, many_rows(MAX_OFFSET + 5))
    with pytest.raises(TooDeepError):
        asyncio.run(replica.page(Query(now=0, offset=MAX_OFFSET + 1)))
    page = asyncio.run(replica.page(Query(now=0, offset=MAX_OFFSET + 5)))
    assert (list(page.rows), page.total, page.end) == ([], MAX_OFFSET + 5, None)


def test_the_version_increases_only_with_a_change_of_the_active_rows() -> None:
    replica = Replica(ActivePatterns())
    rows = many_rows(3)
    put(replica, rows)
    replica.advance(NOW - 1)
    before = replica.version
    replica.advance(NOW - 0.5)
    replica.put("market-0", [])
    replica.put("market-0", [("unknown:pattern:daily:1", None)])
    assert replica.version == before
    replica.advance(NOW)  # The first row ends at this moment.
    ended = replica.version
    assert ended > before
    put(replica, {list(rows)[-1]: None})
    assert replica.version > ended


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
    put(replica, rows)
    [view, *_] = projection.views.values()
    results = asyncio.run(replica.get_many(list(rows), now))
    assert isinstance(results, EncodedRows)
    assert render(results, view, now) == render(list(results), view, now)


@settings(max_examples=100, deadline=None)
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


def test_rows_are_restored_exactly() -> None:
    rows = {
        "whole": BacktestRow(
            "whole", "completed", 1, 5, 6.0, total_trades=7, roi=-0.0, results={"nested": [1, 1.0, None]}
        ),
        "none": BacktestRow("other id", "PROCESSING", 0.5, 5.5, 6.0, extra={"": {"deep": {}}}),
    }
    replica = Replica(Backtests())
    put(replica, rows)
    assert repr(list(replica.rows())) == repr([as_result(key, rows[key]) for key in sorted(rows)])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_rows_of_several_logs_are_merged(data: st.DataObject) -> None:
    replica, parts = Replica(Activity()), dict[str, dict[str, tuple[ActivityRow, int]]]()
    for _ in range(data.draw(st.integers(1, 12))):
        log, key = data.draw(st.sampled_from(market_logs(3))), data.draw(st.sampled_from(KEYS[:3]))
        before = {key: merged(others) for key, others in parts.items()}
        others = {name: part for name, part in parts.get(key, {}).items() if name != log}
        part = data.draw(st.one_of(st.none(), st.tuples(activity_rows, st.integers(1, 9))))
        parts[key] = {**others, log: part} if part else others
        changed = [(key, part and encode_row(*part))]
        after = merged(parts[key])
        old, new = before.get(key), after
        assert replica.changes(log, changed) == [(key, document_of(old), document_of(new))]
        replica.put(log, changed)
        assert replica.document(key) == document_of(after)
        present = {key: result for key, others in parts.items() if (result := merged(others))}
        assert list(replica.rows()) == [
            ResultRow(row, log, position, key) for key, (row, log, position) in sorted(present.items())
        ]


activity_rows = st.builds(
    ActivityRow,
    st.just("2026-11-23"),
    st.just("PatternDetected"),
    st.just("scanner"),
    st.integers(1, 100),
    st.sampled_from((1.0, 2.0)),
    st.sampled_from((3.0, 4)),
)


def merged(parts: Mapping[str, tuple[ActivityRow, int]]) -> tuple[ActivityRow, str, int] | None:
    if not parts:
        return None
    rows = [row for row, _ in parts.values()]
    position, log = max((position, log) for log, (_, position) in parts.items())
    first, latest = min(row.first_at for row in rows), max(row.latest_at for row in rows)
    row = replace(rows[0], events=sum(row.events for row in rows), first_at=first, latest_at=latest)
    return row, log, position


def document_of(result: tuple[ActivityRow, str, int] | None) -> bytes | None:
    return result and encode_row(result[0], result[2])
