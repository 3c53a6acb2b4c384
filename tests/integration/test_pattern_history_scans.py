"""The scan on ``pattern_history``: the same answers as the oracle, on every PostgreSQL we have, and what goes wrong."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.archive.pattern_history.projector import COPY_STATES, history_row
from infra.archive.pattern_history.versions import switch_live_version
from infra.postgres.database import Database
from infra.serving.archive import ArchiveGateway
from infra.serving.pattern_history import PostgresPatternHistory
from projections.base import encode_row
from projections.pattern_history import ValidityInterval, microseconds
from projections.patterns import PatternRow
from projections.queries import MAX_OFFSET, Cursor, HistoryPage, PatternQuery, TooDeepError
from readapi.ports.errors import UnavailableError
from tests import servers
from tests.integration.test_pattern_queries import QUERIES_OF_EVERY_KIND
from tests.oracles import queries as oracle
from tests.pattern_history import clear_archive, scan_history
from tests.pattern_queries import NOW, few_or_many_rows, many_rows, pattern_queries, pattern_rows, rows_by_id

LOG = "market-1"

on_a_server = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def server(every_database: Database) -> Database:
    """An empty archive on each of the servers we have."""
    return every_database


@pytest.fixture(scope="module")
def large(postgres_18_dsn: str) -> Iterator[Database]:
    """An archive with more rows than can be paged past by number."""
    with servers.new_database(postgres_18_dsn) as dsn:
        database = Database(dsn)
        fill(database, many_rows(MAX_OFFSET + 500).values())
        yield database
        database.close()


def fill(database: Database, rows: Iterable[PatternRow]) -> None:
    """Nothing but these rows, recorded before anybody asks, at positions from 1."""
    clear_archive(database)
    with database.connection() as connection:
        switch_live_version(connection, 1)
        with connection.cursor().copy(COPY_STATES) as copy:
            for position, row in enumerate(rows, 1):
                ended = None if row.expires_at is None else microseconds(row.expires_at)
                document = encode_row(row, position)
                copy.write_row(history_row(1, "recorded", LOG, ValidityInterval(0, ended, row, position, document)))


def assert_page(answer: HistoryPage, rows: dict[str, PatternRow], query: PatternQuery) -> None:
    expected = oracle.scan(rows.values(), query)
    assert [found.row.id for found in answer.page.rows] == expected.ids
    assert (answer.page.total, answer.page.end) == (expected.total, expected.end)
    places = {key: place for place, key in enumerate(rows, 1)}
    for found in answer.page.rows:
        assert found == (rows[found.row.id], LOG, places[found.row.id])


@on_a_server
@given(few_or_many_rows, st.lists(pattern_queries(), min_size=4, max_size=12))
def test_a_scan_equals_the_oracle(server: Database, rows: list[PatternRow], queries: list[PatternQuery]) -> None:
    held = rows_by_id(rows)
    fill(server, held.values())
    for query in queries:
        assert_page(scan_history(server, [LOG], query), held, query)


@on_a_server
@given(few_or_many_rows, pattern_queries(), pattern_rows)
def test_a_cursor_goes_on_where_its_row_would_be(
    server: Database, rows: list[PatternRow], query: PatternQuery, absent: PatternRow
) -> None:
    held = rows_by_id(rows)
    fill(server, held.values())
    query = query._replace(offset=0, after=Cursor(oracle.sort_value(absent, query.sort_by), absent.id))
    assert_page(scan_history(server, [LOG], query), held, query)


@pytest.mark.parametrize("query", QUERIES_OF_EVERY_KIND.values(), ids=QUERIES_OF_EVERY_KIND)
def test_scans_of_many_rows(large: Database, query: PatternQuery) -> None:
    assert_page(scan_history(large, [LOG], query), many_rows(MAX_OFFSET + 500), query)


def test_what_lies_too_deep_is_refused_unless_nothing_is_there(large: Database) -> None:
    query = PatternQuery(NOW, offset=MAX_OFFSET + 1)
    total = scan_history(large, [LOG], query._replace(offset=0)).page.total
    assert total > MAX_OFFSET + 1
    with pytest.raises(TooDeepError, match=f"of {total}"):
        scan_history(large, [LOG], query)
    assert scan_history(large, [LOG], query._replace(offset=total)).page == ([], total, None)


def test_moments_are_told_apart_by_the_microsecond(server: Database) -> None:
    row = next(iter(many_rows(1).values()))
    moments = [1_757_001_600.123455, 1_757_001_600.123456, 1_757_001_600.123457]
    states = [
        ValidityInterval(*map(microseconds, span), replace(row, confidence=confidence), 1, encode_row(row, 1))
        for span, confidence in zip(pairwise(moments), (0.1, 0.2), strict=True)
    ]
    fill(server, [])
    with server.connection() as connection, connection.cursor().copy(COPY_STATES) as copy:
        for state in states:
            copy.write_row(history_row(1, "valid", LOG, state))
    found = [
        scan_history(server, [LOG], PatternQuery(moment, confidence_min=0.15), "valid").page.total for moment in moments
    ]
    assert found == [0, 1, 0]
    assert scan_history(server, [LOG], PatternQuery(moments[0])).page.total == 0, "the other timeline"


def test_a_server_that_is_away_is_told_without_its_address() -> None:
    database = Database(f"postgresql://secret@127.0.0.1:{servers.free_port()}/secret")
    history = PostgresPatternHistory(ArchiveGateway(database), [LOG])
    with pytest.raises(UnavailableError) as away:
        asyncio.run(history.scan(PatternQuery(NOW), "recorded"))
    assert str(away.value) == "the archive in PostgreSQL cannot be reached; try again"
    with pytest.raises(UnavailableError):
        asyncio.run(history.folded())
