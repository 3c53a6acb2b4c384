"""The replica of patterns: scans and statistics equal the oracle after any changes, with every search strategy."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.base import encode_row
from projections.patterns import PatternRow
from projections.queries import MAX_OFFSET, PatternQuery, TooDeepError
from readapi.patterns.rendering import compact
from readapi.replica import lazy_index, scanning
from readapi.replica.replica import PatternReplica
from tests.oracles import queries as oracle
from tests.pattern_queries import NOW, few_or_many_rows, log_of_pattern, many_rows, pattern_queries, pattern_rows

changes = st.lists(st.tuples(pattern_rows, st.booleans()), max_size=15)


@pytest.fixture(params=["few rows", "merged runs", "marked columns", "moved rows"])
def search_strategy(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Force a way to find rows: few rows one by one; merged runs; marked columns in short steps; no rebuilt orders."""
    monkeypatch.setattr(scanning, "MERGED_FRACTION", 1 if request.param == "merged runs" else 1_000_000)
    if request.param in ("marked columns", "moved rows"):
        monkeypatch.setattr(scanning, "SELECTED_ROWS", 0)
        monkeypatch.setattr(scanning, "SELECTED_FRACTION", 1_000_000)
        monkeypatch.setattr(scanning, "MIN_WALKED_ROWS", 2)
    if request.param == "moved rows":
        monkeypatch.setattr(lazy_index, "REBUILD_FRACTION", 1_000_000)


def put(replica: PatternReplica, rows: dict[str, PatternRow | None]) -> None:
    for key, row in rows.items():
        replica.put(log_of_pattern(key), [(key, row and encode_row(row, 7))])


def check(replica: PatternReplica, rows: Iterable[PatternRow], query: PatternQuery) -> None:
    expected = oracle.scan(rows, query)
    page = asyncio.run(replica.scan(query))
    assert [result.row.id for result in page.rows] == expected.ids
    assert page.total == expected.total
    assert page.end == expected.end
    rows_by_id = {row.id: row for row in rows}
    for result in page.rows:
        assert result == (rows_by_id[result.row.id], log_of_pattern(result.row.id), 7)


def statistics_of(replica: PatternReplica, now: float) -> dict[str, Any]:
    statistics = asyncio.run(replica.statistics(now))
    return {
        name: list(value.items()) if isinstance(value, dict) else value
        for name in statistics.__dataclass_fields__
        for value in [getattr(statistics, name)]
    }


@pytest.mark.usefixtures("search_strategy")
@settings(max_examples=60, deadline=None)
@given(few_or_many_rows, st.lists(st.tuples(changes, pattern_queries()), min_size=3, max_size=12))
def test_scans_and_statistics_between_changes_equal_the_oracle(
    rows: list[PatternRow], steps: list[tuple[list[tuple[PatternRow, bool]], PatternQuery]]
) -> None:
    rows_by_id: dict[str, PatternRow] = {row.id: row for row in rows}
    replica = PatternReplica()
    put(replica, dict(rows_by_id))
    for changes_of_step, query in steps:
        changed_rows = {row.id: None if removed else row for row, removed in changes_of_step}
        put(replica, changed_rows)
        rows_by_id = {key: row for key, row in (rows_by_id | changed_rows).items() if row}
        check(replica, rows_by_id.values(), query)
        assert statistics_of(replica, query.now) == oracle.statistics(rows_by_id.values(), query.now)


@pytest.mark.usefixtures("search_strategy")
@settings(max_examples=60, deadline=None)
@given(few_or_many_rows, pattern_queries())
def test_pages_by_cursor_contain_every_row_in_order(rows: list[PatternRow], query: PatternQuery) -> None:
    rows_by_id = {row.id: row for row in rows}
    replica = PatternReplica()
    put(replica, dict(rows_by_id))
    query = query._replace(offset=0)
    expected = oracle.scan(rows_by_id.values(), query._replace(limit=1_000))
    ids: list[str] = []
    while True:
        page = asyncio.run(replica.scan(query))
        ids += [result.row.id for result in page.rows]
        assert page.total == expected.total
        if page.end is None:
            break
        query = query._replace(after=page.end)
    assert ids == expected.ids


@settings(max_examples=100, deadline=None)
@given(st.lists(pattern_rows, max_size=20), st.sampled_from((899.0, 950.0, NOW, NOW + 0.5, NOW + 90_000, NOW + 1e6)))
def test_compact_pages_equal_the_rendering_of_each_row(rows: list[PatternRow], now: float) -> None:
    replica = PatternReplica()
    expiries = (None, now + 0.5, now + 59.5, now + 60, now + 3_599, now + 86_399, now + 86_400, now + 1e7)
    rows_by_id = {row.id: replace(row, expires_at=expiries[number % 8]) for number, row in enumerate(rows)}
    put(replica, dict(rows_by_id))
    page = asyncio.run(replica.scan(PatternQuery(now=now, limit=100)))
    assert len(page.rows) == len(rows_by_id)
    assert orjson.loads(page.rows.compact(now)) == [compact(result.row, now) for result in page.rows]  # type: ignore[attr-defined]


def test_scans_of_many_rows_equal_the_oracle() -> None:
    """Enough for every search_strategy of finding them as it is, with many ties."""
    rows_by_id = many_rows(30_000)
    replica = PatternReplica()
    put(replica, dict(rows_by_id))
    for query in (
        PatternQuery(now=NOW, confidence_min=0.5),
        PatternQuery(now=NOW, confidence_min=0.5, rs_min=0.4),
        PatternQuery(now=NOW, confidence_min=0.5, rs_min=0.4, vol_min=0.1, sort_by="rs", offset=60),
        PatternQuery(now=NOW, confidence_min=0.5, rsi_range=(20, 70), vol_min=0.1, sort_by="volume", descending=False),
        PatternQuery(now=NOW, confidence_min=0.999, rs_min=0.999),
        PatternQuery(now=NOW, sort_by="symbol", offset=MAX_OFFSET),
    ):
        check(replica, rows_by_id.values(), query)


def test_a_too_deep_page_is_refused_only_if_it_has_rows() -> None:
    replica = PatternReplica()
    put(replica, dict(many_rows(MAX_OFFSET + 5)))
    with pytest.raises(TooDeepError):
        asyncio.run(replica.scan(PatternQuery(now=0, offset=MAX_OFFSET + 1)))
    page = asyncio.run(replica.scan(PatternQuery(now=0, offset=MAX_OFFSET + 5)))
    assert (list(page.rows), page.total, page.end) == ([], MAX_OFFSET + 5, None)


def test_the_version_increases_only_with_a_change_of_the_active_rows() -> None:
    replica = PatternReplica()
    rows = many_rows(3)
    put(replica, dict(rows))
    asyncio.run(replica.scan(PatternQuery(now=NOW - 1)))
    before = replica.version
    asyncio.run(replica.scan(PatternQuery(now=NOW - 0.5)))
    replica.put("market-0", [])
    replica.put("market-0", [("unknown:pattern:daily:1", None)])
    assert replica.version == before
    asyncio.run(replica.scan(PatternQuery(now=NOW)))  # The first row elapses at this moment.
    elapsed = replica.version
    assert elapsed > before
    put(replica, {list(rows)[-1]: None})
    assert replica.version > elapsed
