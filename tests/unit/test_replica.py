"""The replica: pages, counts and rows equal the oracle after any changes, for any declaration, by every strategy."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.backtests import BacktestRow, Backtests
from projections.base import Projection, encode_row
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import ALWAYS, MAX_OFFSET, Equality, Query, Range, ResultRow, TooDeepError
from readapi.replica import columns, lazy_index, scanning
from readapi.replica.replica import Replica
from tests.declarations import KEYS, declarations, queries_of, rows_of
from tests.oracles import rows as oracle
from tests.oracles.scan_bounds import passes
from tests.pattern_queries import (
    NOW,
    bounded_query,
    few_or_many_rows,
    many_rows,
    one_of,
    pattern_queries,
    pattern_rows,
    scan_bounds,
)

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
    async def read() -> tuple[list[ResultRow[Any]], dict[str, ResultRow[Any] | None]]:
        return list(await replica.get_many(KEYS, now)), {key: await replica.get(key, now) for key in KEYS}

    present = [key for key in KEYS if key in rows and not oracle.has_ended(projection, rows[key], now)]
    together, each = asyncio.run(read())
    assert together == [as_result(key, rows[key]) for key in present]
    assert each == {key: as_result(key, rows[key]) if key in present else None for key in KEYS}
    assert list(replica.rows()) == [as_result(key, rows[key]) for key in sorted(rows)]
    for key, row in rows.items():
        assert replica.document(key) == encode_row(row, 7)


@pytest.mark.usefixtures("search_strategy")
@settings(max_examples=50, deadline=None)
@given(st.data(), declarations())
def test_every_declaration_is_answered_as_the_oracle_answers(data: st.DataObject, projection: AnyProjection) -> None:
    replica, rows = Replica(projection()), dict[str, Any]()
    for _ in range(data.draw(st.integers(1, 4))):
        changed: dict[str, Any] = dict.fromkeys(data.draw(st.sets(st.sampled_from(KEYS), max_size=3)))
        changed |= data.draw(rows_of(projection))
        put(replica, changed)
        rows = {key: row for key, row in (rows | changed).items() if row}
        for query in data.draw(st.lists(queries_of(projection), min_size=1, max_size=8)):
            check_page(projection, replica, rows, query)
        check_counts(projection, replica, rows, query.now)
        check_rows(projection, replica, rows, query.now)


@pytest.mark.usefixtures("search_strategy")
@settings(max_examples=30, deadline=None)
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
@settings(max_examples=30, deadline=None)
@given(st.lists(pattern_rows, max_size=40), st.lists(scan_bounds, min_size=4, max_size=12))
def test_a_bound_at_the_end_of_its_scale_excludes_no_row(rows: list[PatternRow], bounds: list[dict[str, str]]) -> None:
    replica, stored = Replica(ActivePatterns()), {row.id: row for row in rows}
    put(replica, stored)
    for each in bounds:
        expected = {row.id for row in stored.values() if passes(row, each)}
        assert {result.key for result in asyncio.run(replica.page(bounded_query(each, ALWAYS))).rows} == expected


@pytest.mark.usefixtures("search_strategy")
@settings(max_examples=30, deadline=None)
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
