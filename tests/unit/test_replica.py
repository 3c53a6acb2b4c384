"""The replica answers as the oracle does, whatever has changed before, and whichever way it finds its rows."""

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


@pytest.fixture(params=["few", "merged", "marked", "moved"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows looked at one by one; runs merged; columns marked, and walked in short steps; orders never made anew."""
    monkeypatch.setattr(scanning, "MERGED_FRACTION", 1 if request.param == "merged" else 1_000_000)
    if request.param in ("marked", "moved"):
        monkeypatch.setattr(scanning, "SELECTED_ROWS", 0)
        monkeypatch.setattr(scanning, "SELECTED_FRACTION", 1_000_000)
        monkeypatch.setattr(scanning, "MIN_WALKED_ROWS", 2)
    if request.param == "moved":
        monkeypatch.setattr(lazy_index, "REBUILD_FRACTION", 1_000_000)


def put(replica: PatternReplica, rows: dict[str, PatternRow | None]) -> None:
    for key, row in rows.items():
        replica.put(log_of_pattern(key), [(key, row and encode_row(row, 7))])


def check(replica: PatternReplica, rows: Iterable[PatternRow], query: PatternQuery) -> None:
    expected = oracle.scan(rows, query)
    page = asyncio.run(replica.scan(query))
    assert [found.row.id for found in page.rows] == expected.ids
    assert page.total == expected.total
    assert page.end == expected.end
    held = {row.id: row for row in rows}
    for found in page.rows:
        assert found == (held[found.row.id], log_of_pattern(found.row.id), 7)


def statistics_of(replica: PatternReplica, now: float) -> dict[str, Any]:
    counted = asyncio.run(replica.statistics(now))
    return {
        name: list(value.items()) if isinstance(value, dict) else value
        for name in counted.__dataclass_fields__
        for value in [getattr(counted, name)]
    }


@pytest.mark.usefixtures("way")
@settings(max_examples=60, deadline=None)
@given(few_or_many_rows, st.lists(st.tuples(changes, pattern_queries()), min_size=3, max_size=12))
def test_scans_between_changes_equal_the_oracle(
    rows: list[PatternRow], steps: list[tuple[list[tuple[PatternRow, bool]], PatternQuery]]
) -> None:
    held: dict[str, PatternRow] = {row.id: row for row in rows}
    replica = PatternReplica()
    put(replica, dict(held))
    for changed, query in steps:
        generation = {row.id: None if removed else row for row, removed in changed}
        put(replica, generation)
        held = {key: row for key, row in (held | generation).items() if row}
        check(replica, held.values(), query)
        assert statistics_of(replica, query.now) == oracle.statistics(held.values(), query.now)


@pytest.mark.usefixtures("way")
@settings(max_examples=60, deadline=None)
@given(few_or_many_rows, pattern_queries())
def test_pages_by_cursor_make_up_the_whole_answer(rows: list[PatternRow], query: PatternQuery) -> None:
    held = {row.id: row for row in rows}
    replica = PatternReplica()
    put(replica, dict(held))
    query = query._replace(offset=0)
    whole = oracle.scan(held.values(), query._replace(limit=1_000))
    ids: list[str] = []
    while True:
        page = asyncio.run(replica.scan(query))
        ids += [found.row.id for found in page.rows]
        assert page.total == whole.total
        if page.end is None:
            break
        query = query._replace(after=page.end)
    assert ids == whole.ids


@settings(max_examples=100, deadline=None)
@given(st.lists(pattern_rows, max_size=20), st.sampled_from((899.0, 950.0, NOW, NOW + 0.5, NOW + 90_000, NOW + 1e6)))
def test_rows_are_shown_as_they_are_rendered_whole(rows: list[PatternRow], now: float) -> None:
    replica = PatternReplica()
    expiries = (None, now + 0.5, now + 59.5, now + 60, now + 3_599, now + 86_399, now + 86_400, now + 1e7)
    held = {row.id: replace(row, expires_at=expiries[number % 8]) for number, row in enumerate(rows)}
    put(replica, dict(held))
    page = asyncio.run(replica.scan(PatternQuery(now=now, limit=100)))
    assert len(page.rows) == len(held)
    assert orjson.loads(page.rows.compact(now)) == [compact(found.row, now) for found in page.rows]  # type: ignore[attr-defined]


def test_many_rows() -> None:
    """Enough for every way of finding them as it is, with many ties."""
    held = many_rows(30_000)
    replica = PatternReplica()
    put(replica, dict(held))
    for query in (
        PatternQuery(now=NOW, confidence_min=0.5),
        PatternQuery(now=NOW, confidence_min=0.5, rs_min=0.4),
        PatternQuery(now=NOW, confidence_min=0.5, rs_min=0.4, vol_min=0.1, sort_by="rs", offset=60),
        PatternQuery(now=NOW, confidence_min=0.5, rsi_range=(20, 70), vol_min=0.1, sort_by="volume", descending=False),
        PatternQuery(now=NOW, confidence_min=0.999, rs_min=0.999),
        PatternQuery(now=NOW, sort_by="symbol", offset=MAX_OFFSET),
    ):
        check(replica, held.values(), query)


def test_a_page_too_deep_is_refused_only_where_there_are_rows() -> None:
    replica = PatternReplica()
    put(replica, dict(many_rows(MAX_OFFSET + 5)))
    with pytest.raises(TooDeepError):
        asyncio.run(replica.scan(PatternQuery(now=0, offset=MAX_OFFSET + 1)))
    page = asyncio.run(replica.scan(PatternQuery(now=0, offset=MAX_OFFSET + 5)))
    assert (list(page.rows), page.total, page.end) == ([], MAX_OFFSET + 5, None)


def test_the_version_rises_with_what_can_be_answered_and_only_then() -> None:
    replica = PatternReplica()
    rows = many_rows(3)
    put(replica, dict(rows))
    asyncio.run(replica.scan(PatternQuery(now=NOW - 1)))
    before = replica.version
    asyncio.run(replica.scan(PatternQuery(now=NOW - 0.5)))
    replica.put("market-0", [])
    replica.put("market-0", [("never:there:daily:1", None)])
    assert replica.version == before
    asyncio.run(replica.scan(PatternQuery(now=NOW)))  # when the first of them elapses
    elapsed = replica.version
    assert elapsed > before
    put(replica, {list(rows)[-1]: None})
    assert replica.version > elapsed
