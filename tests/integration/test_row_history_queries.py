"""Scans of the history of ``patterns`` on every version of PostgreSQL: the results equal the oracle's."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.archive.row_history.projector import COPY_STATES, history_row
from infra.archive.row_history.versions import switch_live_version
from infra.postgres.database import Database
from infra.serving.archive import ArchiveGateway
from infra.serving.pattern_history import PostgresPatternHistory
from projections.base import encode_row
from projections.pattern_history import ValidityInterval, microseconds
from projections.patterns import PatternRow
from projections.queries import MAX_OFFSET, Cursor, HistoryPage, PatternQuery, TooDeepError
from readapi.ports.errors import UnavailableError
from tests import servers
from tests.integration.pattern_query_support import PATTERN_QUERIES
from tests.oracles import queries as oracle
from tests.row_history import clear_archive, query_history
from tests.pattern_queries import NOW, few_or_many_rows, many_rows, pattern_queries, pattern_rows, rows_by_id

LOG = "market-1"

on_a_server = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def archive(every_database: Database) -> Database:
    """Empty archive, once on each version of PostgreSQL."""
    return every_database


@pytest.fixture(scope="module")
def large_archive(postgres_18_dsn: str) -> Iterator[Database]:
    """Archive with more rows than the highest offset. No test changes its rows."""
    with servers.new_database(postgres_18_dsn) as dsn:
        database = Database(dsn)
        write_states(database, many_rows(MAX_OFFSET + 500).values())
        yield database
        database.close()


def write_states(database: Database, rows: Iterable[PatternRow]) -> None:
    """Clear the archive and store rows, as if recorded at the epoch at positions from 1."""
    clear_archive(database)
    with database.connection() as connection:
        switch_live_version(connection, 1)
        with connection.cursor().copy(COPY_STATES) as copy:
            for position, row in enumerate(rows, 1):
                end = None if row.expires_at is None else microseconds(row.expires_at)
                document = encode_row(row, position)
                copy.write_row(history_row(1, "recorded", LOG, ValidityInterval(0, end, row, position, document)))


def assert_page(answer: HistoryPage, rows: dict[str, PatternRow], query: PatternQuery) -> None:
    expected = oracle.scan(rows.values(), query)
    assert [result.row.id for result in answer.page.rows] == expected.ids
    assert (answer.page.total, answer.page.end) == (expected.total, expected.end)
    positions = {key: position for position, key in enumerate(rows, 1)}
    for result in answer.page.rows:
        assert result == (rows[result.row.id], LOG, positions[result.row.id])


@on_a_server
@given(few_or_many_rows, st.lists(pattern_queries(), min_size=4, max_size=12))
def test_a_scan_equals_the_oracle(archive: Database, rows: list[PatternRow], queries: list[PatternQuery]) -> None:
    stored = rows_by_id(rows)
    write_states(archive, stored.values())
    for query in queries:
        assert_page(query_history(archive, [LOG], query), stored, query)


@on_a_server
@given(few_or_many_rows, pattern_queries(), pattern_rows)
def test_a_cursor_continues_at_the_place_of_its_row_even_if_the_row_is_absent(
    archive: Database, rows: list[PatternRow], query: PatternQuery, absent: PatternRow
) -> None:
    stored = rows_by_id(rows)
    write_states(archive, stored.values())
    query = query._replace(offset=0, after=Cursor(oracle.sort_value(absent, query.sort_by), absent.id))
    assert_page(query_history(archive, [LOG], query), stored, query)


@pytest.mark.parametrize("query", PATTERN_QUERIES.values(), ids=PATTERN_QUERIES)
def test_scans_of_many_rows_equal_the_oracle(large_archive: Database, query: PatternQuery) -> None:
    assert_page(query_history(large_archive, [LOG], query), many_rows(MAX_OFFSET + 500), query)


def test_a_page_beyond_the_highest_offset_is_refused_unless_it_is_empty(large_archive: Database) -> None:
    query = PatternQuery(NOW, offset=MAX_OFFSET + 1)
    total = query_history(large_archive, [LOG], query._replace(offset=0)).page.total
    assert total > MAX_OFFSET + 1
    with pytest.raises(TooDeepError, match=f"of {total}"):
        query_history(large_archive, [LOG], query)
    assert query_history(large_archive, [LOG], query._replace(offset=total)).page == ([], total, None)


def test_scans_distinguish_moments_by_the_microsecond(archive: Database) -> None:
    row = next(iter(many_rows(1).values()))
    moments = [1_757_001_600.123455, 1_757_001_600.123456, 1_757_001_600.123457]
    states = [
        ValidityInterval(*map(microseconds, span), replace(row, confidence=confidence), 1, encode_row(row, 1))
        for span, confidence in zip(pairwise(moments), (0.1, 0.2), strict=True)
    ]
    write_states(archive, [])
    with archive.connection() as connection, connection.cursor().copy(COPY_STATES) as copy:
        for state in states:
            copy.write_row(history_row(1, "valid", LOG, state))
    totals = [
        query_history(archive, [LOG], PatternQuery(moment, confidence_min=0.15), "valid").page.total
        for moment in moments
    ]
    assert totals == [0, 1, 0]
    assert query_history(archive, [LOG], PatternQuery(moments[0])).page.total == 0, "the recorded timeline has no state"


def test_an_unreachable_server_is_reported_without_its_address() -> None:
    database = Database(f"postgresql://secret@127.0.0.1:{servers.free_port()}/secret")
    history = PostgresPatternHistory(ArchiveGateway(database), [LOG])
    with pytest.raises(UnavailableError) as away:
        asyncio.run(history.scan(PatternQuery(NOW), "recorded"))
    assert str(away.value) == "the archive in PostgreSQL cannot be reached; try again"
    with pytest.raises(UnavailableError):
        asyncio.run(history.folded())
