"""Queries of histories on every version of PostgreSQL: random declarations, rows and queries equal the oracle's."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from infra.archive.row_history.tables import original, storable
from infra.postgres.database import Database
from infra.postgres.schema import migrations
from infra.serving.archive import ArchiveGateway, ArchiveServers
from infra.serving.row_history import PostgresHistory
from projections.base import encode_row
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import (
    MAX_OFFSET,
    AnyProjection,
    Cursor,
    Equality,
    HistoryPage,
    Query,
    Range,
    Timeline,
    TooDeepError,
)
from projections.row_history import TIMELINES, ValidityInterval, microseconds
from readapi.ports.errors import UnavailableError
from tests import servers
from tests.declarations import DeclaredProjection, declarations, queries_of, rows_of
from tests.oracles import rows as oracle
from tests.oracles.scan_bounds import passes
from tests.pattern_queries import NOW, bounded_query, many_rows, pattern_rows, scan_bounds
from tests.row_history import clear_archive, query_histories, query_history, write_states
from tests.tcp_ports import free_port

LOG = "market-1"

on_a_server = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

numbers = count()
"""Numbers in the names of histories. A table has the columns of all projections that ever had its name."""


@pytest.fixture(scope="module")
def large_archive(postgres_18_dsn: str) -> Iterator[Database]:
    """Archive with more rows than the highest offset. No test changes its rows."""
    with servers.new_database(postgres_18_dsn) as dsn:
        database = Database(dsn)
        write_rows(database, ActivePatterns, many_rows(MAX_OFFSET + 500))
        yield database
        database.close()


def state_of(
    projection: AnyProjection, key: str, row: Any, position: int, start: float, end: float | None
) -> ValidityInterval:
    """Return the state of a row from ``start`` until ``end``, or until the row ends."""
    ends = [
        moment for moment in (end, getattr(row, projection.ends) if projection.ends else None) if moment is not None
    ]
    until = max(min(ends), start) if ends else None
    return ValidityInterval(
        key,
        microseconds(start),
        None if until is None else microseconds(until),
        row,
        position,
        encode_row(row, position),
    )


def write_rows(database: Database, projection: AnyProjection, rows: Mapping[str, Any]) -> None:
    """Store rows, as if recorded at the epoch at positions from 1."""
    states = [state_of(projection, key, row, position, 0, None) for position, (key, row) in enumerate(rows.items(), 1)]
    write_states(database, projection, LOG, [("recorded", state) for state in states])


def assert_page(answer: HistoryPage, projection: AnyProjection, rows: Mapping[str, Any], query: Query) -> None:
    expected = oracle.page(projection, rows, query)
    assert [result.key for result in answer.page.rows] == expected.keys
    assert (answer.page.total, answer.page.end) == (expected.total, expected.end)
    for result in answer.page.rows:
        assert (result.row, result.log) == (rows[result.key], LOG)


@on_a_server
@given(st.data(), st.tuples(declarations(), declarations()))
def test_queries_of_any_declaration_equal_the_oracle_at_any_moment(
    every_database: Database, data: st.DataObject, declared: tuple[DeclaredProjection, DeclaredProjection]
) -> None:
    """Each row changes at some moments, on each timeline at others. A table gets the columns of two declarations."""
    history = f"declared_{next(numbers)}_history"
    for version, declaration in enumerate(declared, 1):
        projection = type("Versioned", (declaration,), {"history": history, "version": version})
        past = {
            timeline: [(moment, data.draw(rows_of(projection))) for moment in (0.0, 999.0, 1_200.0)]
            for timeline in TIMELINES
        }
        write_states(every_database, projection, LOG, states_of(projection, past))
        queries = data.draw(
            st.lists(st.tuples(queries_of(projection), st.sampled_from(TIMELINES)), min_size=5, max_size=10)
        )
        answers = query_histories(every_database, [LOG], queries, projection)
        for (query, timeline), answer in zip(queries, answers, strict=True):
            rows = [rows for moment, rows in past[timeline] if moment <= query.now][-1]
            assert answer.version == projection.version
            assert_page(answer, projection, rows, query)


@on_a_server
@given(st.lists(pattern_rows, max_size=40), st.lists(scan_bounds, min_size=4, max_size=12))
def test_a_bound_at_the_end_of_its_scale_excludes_no_row(
    every_database: Database, rows: list[PatternRow], bounds: list[dict[str, str]]
) -> None:
    clear_archive(every_database)
    stored = {row.id: replace(row, expires_at=None) for row in rows}
    write_rows(every_database, ActivePatterns, stored)
    queries: list[tuple[Query, Timeline]] = [(bounded_query(each), "recorded") for each in bounds]
    for each, answer in zip(bounds, query_histories(every_database, [LOG], queries), strict=True):
        assert {result.key for result in answer.page.rows} == {row.id for row in stored.values() if passes(row, each)}


def states_of(
    projection: DeclaredProjection, past: Mapping[Timeline, list[tuple[float, dict[str, Any]]]]
) -> Iterator[tuple[Timeline, ValidityInterval]]:
    """Yield the states of rows of which all are replaced at some moments."""
    for timeline, changes in past.items():
        for (start, rows), (end, _) in pairwise([*changes, (None, {})]):
            assert start is not None
            for position, (key, row) in enumerate(rows.items(), 1):
                yield timeline, state_of(projection, key, row, position, start, end)


@given(st.lists(st.text(st.sampled_from("\0\1\2\3aé")), min_size=2, max_size=2))
def test_storable_texts_keep_their_order_and_can_be_read_again(texts: list[str]) -> None:
    first, second = map(storable, texts)
    assert "\0" not in first
    assert original(first) == texts[0]
    assert (first < second, first == second) == (texts[0] < texts[1], texts[0] == texts[1])


def test_texts_that_postgresql_does_not_store_are_queried_like_others(every_database: Database) -> None:
    rows = {
        row.id: row
        for row in (
            replace(row, id=f"{symbol}:Doji:daily:1", symbol=symbol)
            for row, symbol in zip(many_rows(4).values(), ("a\0", "a", "\0\1", "\1"), strict=True)
        )
    }
    write_rows(every_database, ActivePatterns, rows)
    for query in (
        Query(NOW - 1, sort_by="symbol", limit=2),
        Query(NOW - 1, after=Cursor(None, "a\0:Doji:daily:1")),
        Query(NOW - 1, (Equality("symbol", frozenset(("A\0", "\1"))), Equality("id", frozenset(rows)))),
    ):
        assert_page(query_history(every_database, [LOG], query), ActivePatterns, rows, query)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort_by", ["confidence", "relative_strength", "symbol", None])
@pytest.mark.parametrize(
    "filters",
    [
        (),
        (Equality("symbol", frozenset(("S1", "S2", "S3"))), Range("confidence", 0.5)),
        (
            Equality("symbol", frozenset(f"S{number}" for number in range(400))),
            Equality("pattern", frozenset(("Doji",))),
        ),
        (Range("rsi", 30, 70), Range("relative_volume", 1.5)),
    ],
    ids=["all", "three symbols", "a universe and a type", "bounds"],
)
def test_queries_of_many_rows_equal_the_oracle(
    large_archive: Database, filters: tuple[Any, ...], sort_by: str | None, descending: bool
) -> None:
    rows = many_rows(MAX_OFFSET + 500)
    query = Query(NOW, filters, sort_by, descending, limit=100)
    answer = query_history(large_archive, [LOG], query)
    assert_page(answer, ActivePatterns, rows, query)
    for following in (query._replace(after=answer.page.end), query._replace(offset=answer.page.total // 2)):
        assert_page(query_history(large_archive, [LOG], following), ActivePatterns, rows, following)


def test_a_page_beyond_the_highest_offset_is_refused_unless_it_is_empty(large_archive: Database) -> None:
    query = Query(NOW, offset=MAX_OFFSET + 1)
    total = query_history(large_archive, [LOG], query._replace(offset=0)).page.total
    assert total > MAX_OFFSET + 1
    with pytest.raises(TooDeepError, match=f"of {total}"):
        query_history(large_archive, [LOG], query)
    assert query_history(large_archive, [LOG], query._replace(offset=total)).page == ([], total, None)


def test_queries_distinguish_moments_by_the_microsecond(every_database: Database) -> None:
    row = next(iter(many_rows(1).values()))
    moments = [1_757_001_600.123455, 1_757_001_600.123456, 1_757_001_600.123457]
    states: list[tuple[Timeline, ValidityInterval]] = [
        ("valid", state_of(ActivePatterns, row.id, replace(row, confidence=confidence, expires_at=None), 1, *span))
        for span, confidence in zip(pairwise(moments), (0.1, 0.2), strict=True)
    ]
    write_states(every_database, ActivePatterns, LOG, states)
    bound = (Range("confidence", 0.15),)
    totals = [query_history(every_database, [LOG], Query(moment, bound), "valid").page.total for moment in moments]
    assert totals == [0, 1, 0]
    empty = query_history(every_database, [LOG], Query(moments[0]))
    assert empty.page.total == 0, "the recorded timeline has no state"


def test_a_session_that_may_only_read_can_query_complete_tables(every_database: Database) -> None:
    rows = many_rows(3)
    write_rows(every_database, ActivePatterns, rows)
    reader = Database(make_conninfo(every_database.dsn, options="-c default_transaction_read_only=on"))
    query = Query(NOW - 1)
    assert_page(query_history(reader, [LOG], query), ActivePatterns, rows, query)
    reader.close()


def test_the_migration_removes_the_former_history_of_patterns(database_url: str) -> None:
    database = Database(database_url)
    database.check()
    with database.connection() as connection:
        former, upgrade = (migration.sql for migration in migrations()[1:3])
        connection.execute("DROP TABLE tickview.live_versions")
        connection.execute(former)
        connection.execute("INSERT INTO tickview.live_versions VALUES ('pattern_history', 1), ('other', 1)")
        connection.execute(upgrade)
        assert connection.execute("SELECT name FROM tickview.live_versions").fetchall() == [("other",)]
        assert connection.execute("SELECT to_regclass('tickview.pattern_history')").fetchone() == (None,)
    database.close()


def test_an_unreachable_server_is_reported_without_its_address() -> None:
    database = Database(f"postgresql://secret@127.0.0.1:{free_port()}/secret")
    history = PostgresHistory(ArchiveServers(ArchiveGateway(database)), ActivePatterns, [LOG])
    with pytest.raises(UnavailableError) as away:
        asyncio.run(history.page(Query(NOW), "recorded"))
    assert str(away.value) == "the archive in PostgreSQL cannot be reached; try again"
    with pytest.raises(UnavailableError):
        asyncio.run(history.folded())
