"""The projector of a history on a real archive: queries equal the oracle at every moment."""

from collections.abc import Sequence
from itertools import chain, repeat
from time import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier
from redis import Redis

from domain.codec import decode, topic_of
from domain.events import Event, PatternDetected
from domain.streams import log_of, market_logs
from infra.archive.leases import LeaseLostError
from infra.archive.row_history.versions import remove_previous_version, switch_live_version
from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import HistoryPage, Query, Timeline
from projections.row_history import TIMELINES
from tests.archiving import archive_to_end, archived_log
from tests.events import new_events
from tests.integration.archive_support import CrashingDatabase, detections
from tests.integration.crashes import CrashError
from tests.oracles import rows as oracle
from tests.oracles.row_history import RecordedEvent, moments_of_change, rows_at
from tests.pattern_queries import pattern_queries
from tests.row_history import (
    PATTERNS,
    clear_archive,
    fold_history,
    history_lease,
    history_projector,
    query_histories,
    query_history,
)
from tests.strategies import histories

LOGS = market_logs(2)
VERSION = ActivePatterns.version
ALL_ROWS = 1_000

MIDDLE_MOMENT = 878_550_000
"""Epoch second. All moments that the strategies draw lie within 50,000 seconds of this moment."""


def moved_to_now(event: Event) -> Event:
    """Move the moments of an event to within half a second of now, so that they mix with the times of recording."""
    now = time()

    def moved(moment: float) -> float:
        return round(now + (moment - MIDDLE_MOMENT) / 100_000, 3)

    changes: dict[str, Any] = {"occurred_at": moved(event.occurred_at)}
    if getattr(event, "expires_at", None) is not None:
        changes["expires_at"] = moved(event.expires_at)  # type: ignore[attr-defined]
    return event.model_copy(update=changes)


def record(redis: Redis, database: Database, events: Sequence[Event]) -> None:
    """Append each event to its log, one event per call, so that the times of recording differ."""
    logs = {name: archived_log(redis, database, name) for name in LOGS}
    for log in logs.values():
        log.open()
    for event in events:
        logs[log_of(event.stream, len(LOGS))].append(new_events([moved_to_now(event)]))


def archive_and_fold(redis: Redis, database: Database, batch_size: int = 100) -> None:
    for name in LOGS:
        archive_to_end(database, archived_log(redis, database, name), batch_size)
        fold_history(database, name, batch_size)


def recorded_events(redis: Redis, log: str) -> list[RecordedEvent]:
    """Return all events of a log with their times of recording."""
    return [
        RecordedEvent(decode(entry.topic, entry.event_id, entry.state), entry.position, entry.recorded_at)
        for entry in EventLog(redis, log).read(0, ALL_ROWS)
    ]


def assert_page(
    answer: HistoryPage, query: Query, timeline: Timeline, events_by_log: dict[str, list[RecordedEvent]]
) -> None:
    """Assert that rows, order, total, provenance and positions equal the oracle's."""
    expected_rows = {
        key: (PatternRow(**expected_row.row), log, expected_row.position, key)
        for log, events in events_by_log.items()
        for key, expected_row in rows_at(ActivePatterns(), events, timeline, query.now).items()
    }
    expected = oracle.page(ActivePatterns, {key: row for key, (row, *_) in expected_rows.items()}, query)
    assert [result.key for result in answer.page.rows] == expected.keys
    assert (answer.page.total, answer.page.end) == (expected.total, expected.end)
    assert all(tuple(result) == expected_rows[result.key] for result in answer.page.rows)
    assert answer.positions == {log: len(events) for log, events in events_by_log.items()}


def assert_every_moment_equals_the_oracle(redis: Redis, database: Database) -> None:
    """Compare scans of every moment at which a row changes with the oracle, on both timelines."""
    events_by_log = {log: recorded_events(redis, log) for log in LOGS}
    moments = sorted({moment for events in events_by_log.values() for moment in moments_of_change(events)})
    queries = [
        (Query(moment, sort_by="symbol", descending=True, limit=ALL_ROWS), timeline)
        for moment in moments
        for timeline in TIMELINES
    ]
    for (query, timeline), answer in zip(queries, query_histories(database, LOGS, queries), strict=True):
        assert_page(answer, query, timeline, events_by_log)


on_servers = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@on_servers
@given(
    histories,
    st.lists(st.tuples(pattern_queries(), st.integers(0, 10**6), st.sampled_from(TIMELINES)), min_size=5, max_size=15),
    st.integers(1, 20),
)
def test_a_scan_of_any_moment_equals_the_oracle(
    redis: Redis,
    database: Database,
    history: list[Event],
    choices: list[tuple[Query, int, Timeline]],
    batch_size: int,
) -> None:
    redis.flushall()
    clear_archive(database)
    half = len(history) // 2
    record(redis, database, history[:half])
    archive_and_fold(redis, database, batch_size)
    record(redis, database, history[half:])
    archive_and_fold(redis, database, batch_size)

    events_by_log = {log: recorded_events(redis, log) for log in LOGS}
    moments = [moment for events in events_by_log.values() for moment in moments_of_change(events)]
    queries: list[tuple[Query, Timeline]] = [
        (query._replace(now=moments[choice % len(moments)]), timeline) for query, choice, timeline in choices
    ]
    for (query, timeline), answer in zip(queries, query_histories(database, LOGS, queries), strict=True):
        assert_page(answer, query, timeline, events_by_log)
    assert_every_moment_equals_the_oracle(redis, database)


def test_every_event_is_folded_once_despite_crashes_before_commits(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOGS[0])
    log.append(new_events(detections(20)))
    archive_to_end(database, log)
    crashes = chain.from_iterable(repeat(("before", "none"), 6))
    crashing_database = CrashingDatabase(database.dsn, crashes)
    projector = history_projector(crashing_database, history_lease(database, log.name), 7)
    with database.connection() as connection:
        switch_live_version(connection, PATTERNS, VERSION)
    folded = 0
    while folded < 40:
        with pytest.raises(CrashError):
            projector.step()
        assert query_history(database, LOGS, Query(time())).positions[log.name] == folded
        folded += projector.step()
    assert next(crashes, None) is None, "six batches, and a crash before each commit"
    assert projector.step() == 0
    crashing_database.close()
    assert_every_moment_equals_the_oracle(redis, database)
    with database.connection() as connection:
        statement = "SELECT count(*), count(recorded), count(valid) FROM tickview.pattern_history"
        [counts] = connection.execute(statement)
    recorded = len({event.recorded_at for event in recorded_events(redis, log.name)}) * 20
    assert counts == (recorded, recorded, 20), "a state that is on both timelines has one row"


def test_the_commit_of_a_stalled_owner_is_refused(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOGS[0])
    log.append(new_events(detections(10)))
    archive_to_end(database, log)
    stalled = history_projector(database, history_lease(database, log.name, "stalled", seconds=0), 8)
    successor = history_projector(database, history_lease(database, log.name, "successor"), 8)
    with pytest.raises(LeaseLostError):
        stalled.step()
    assert successor.step() == 8
    with pytest.raises(LeaseLostError):
        stalled.step()
    assert [successor.step() for _ in range(3)] == [8, 4, 0]
    with database.connection() as connection:
        switch_live_version(connection, PATTERNS, VERSION)
    assert_every_moment_equals_the_oracle(redis, database)


def test_events_that_cannot_be_decoded_or_stored_are_skipped(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOGS[0])
    valid_events = new_events(detections(2))
    events_with_unstorable_names = [
        detections(1)[0].model_copy(update={field: name, "event_id": f"{field} {len(name)}"})
        for field in ("pattern", "tier")
        for name in ("x" * 5_000, "\U0001f4c8" * 900)
    ]
    log.append(
        [
            valid_events[0],
            NewEvent("symbol-AAPL", topic_of(PatternDetected), b"no JSON"),
            NewEvent("symbol-AAPL", topic_of(PatternDetected), b"{}"),
            NewEvent("symbol-AAPL", "another.application:Event", b"\xff"),
            *new_events(events_with_unstorable_names),
            *valid_events[1:],
        ]
    )
    archive_to_end(database, log)
    assert fold_history(database, log.name, 3) == 11
    answer = query_history(database, LOGS, Query(time() + 1))
    assert {result.position for result in answer.page.rows} == {9, 11}
    assert answer.positions == {LOGS[0]: 11, LOGS[1]: 0}


def test_a_detection_with_a_detached_event_does_not_change(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOGS[0])
    events = detections(2)
    log.append(new_events(events))
    archive_to_end(database, log)
    fold_history(database, log.name)
    with database.connection() as connection:
        connection.execute("DELETE FROM tickview.events WHERE position = 1")
    log.append(new_events(event.model_copy(update={"event_id": f"later {event.event_id}"}) for event in events[::2]))
    archive_to_end(database, log)
    assert fold_history(database, log.name) == 2
    answer = query_history(database, LOGS, Query(time() + 1))
    assert {result.position for result in answer.page.rows} == {2, 6}
    assert answer.positions[log.name] == 6


def test_the_events_of_a_unit_that_changed_lately_are_not_read_again(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOGS[0])
    events = detections(1)
    log.append(new_events(events))
    archive_to_end(database, log)
    projector = history_projector(database, history_lease(database, log.name))
    with database.connection() as connection:
        switch_live_version(connection, PATTERNS, VERSION)
    assert projector.step() == 2
    with database.connection() as connection:
        connection.execute("DELETE FROM tickview.events")
    log.append(new_events(event.model_copy(update={"event_id": f"later {event.event_id}"}) for event in events))
    archive_to_end(database, log)
    assert projector.step() == 2
    [result] = query_history(database, LOGS, Query(time() + 1)).page.rows
    assert result.position == 4


def rows_read(database: Database) -> int:
    """Return how many rows of the histories and of the archive were read by scans and by indexes."""
    with database.connection() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
    with database.connection() as connection:
        [[rows]] = connection.execute(
            """SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables
            WHERE relname IN ('pattern_history', 'patterns_events') OR relname LIKE 'events_%'"""
        )
    return int(rows)


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept units", "units read again"])
def test_a_batch_reads_the_rows_of_its_own_units_alone(redis: Redis, database: Database, is_kept: bool) -> None:
    """The tables have grown since they were last analyzed."""
    log = archived_log(redis, database, LOGS[0])
    former = detections(1_000)
    log.append(new_events(former))
    archive_to_end(database, log, 1_000)
    lease = history_lease(database, log.name)
    projector = history_projector(database, lease, 1_000)
    assert [projector.step(), projector.step()] == [1_000, 1_000]
    later = [event.model_copy(update={"event_id": f"later {event.event_id}"}) for event in former[::100]]
    log.append(new_events([*later, *detections(200, "MSFT")]))
    archive_to_end(database, log, 1_000)
    before = rows_read(database)
    if is_kept:
        assert projector.step(log.read(2_000, 20)) == 20
    else:
        assert history_projector(database, lease, 20).step() == 20
    assert rows_read(database) - before < 20 * 10


def versions_of(database: Database, table: str) -> set[int]:
    with database.connection() as connection:
        statement = SQL("SELECT DISTINCT version FROM {}").format(Identifier("tickview", table))
        return {version for (version,) in connection.execute(statement)}


def test_a_version_answers_until_its_successor_caught_up_and_is_then_removed(redis: Redis, database: Database) -> None:
    logs = [archived_log(redis, database, name) for name in LOGS]
    for log in logs:
        log.open()
    for log, symbol in zip(logs, ("AAPL", "MSFT"), strict=True):
        log.append(new_events(detections(10, symbol)))
        archive_to_end(database, log)
        assert fold_history(database, log.name) == 20
    successors = [
        history_projector(database, history_lease(database, log.name, version=VERSION + 1), 15) for log in logs
    ]

    def answer_after_switch_attempt() -> tuple[int, int, dict[str, int]]:
        with database.connection() as connection:
            switch_live_version(connection, PATTERNS, VERSION + 1)
        answer = query_history(database, LOGS, Query(time()))
        return answer.version, answer.page.total, dict(answer.positions)

    former_answer = (VERSION, 20, dict.fromkeys(LOGS, 20))
    assert answer_after_switch_attempt() == former_answer
    for projector, read in zip((*successors, successors[0]), (15, 15, 5), strict=True):
        assert projector.step() == read
        assert answer_after_switch_attempt() == former_answer
    logs[1].append(new_events(detections(1, "NVDA")))
    archive_to_end(database, logs[1])
    assert successors[1].step() == 7
    assert answer_after_switch_attempt() == (VERSION + 1, 21, {LOGS[0]: 20, LOGS[1]: 22})
    assert_every_moment_equals_the_oracle(redis, database)

    with database.connection() as connection:
        assert not switch_live_version(connection, PATTERNS, VERSION)
        assert remove_previous_version(connection, PATTERNS, 7) == 0, "the previous version has a lease"
        connection.execute(
            "UPDATE tickview.segments SET leased_until = now() WHERE version = %s AND name <> 'archive'", [VERSION]
        )
    removed = []
    while not removed or removed[-1]:
        with database.connection() as connection:
            removed.append(remove_previous_version(connection, PATTERNS, 7))
    assert (max(removed), sum(removed)) == (14, 60)
    for table in ("pattern_history", "patterns_events"):
        assert versions_of(database, table) == {VERSION + 1}
    with database.connection() as connection:
        assert connection.execute("SELECT FROM tickview.segments WHERE name = 'pattern_history'").rowcount == 2
    assert_every_moment_equals_the_oracle(redis, database)


def test_events_of_other_applications_move_the_checkpoint(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOGS[0])
    log.append([NewEvent("backtest-1", "another:Event", b"") for _ in range(10)])
    archive_to_end(database, log)
    assert fold_history(database, log.name, 4) == 10
    assert query_history(database, LOGS, Query(time())).positions[log.name] == 10


def test_a_scan_before_the_first_fold_is_empty(database: Database) -> None:
    answer = query_history(database, LOGS, Query(time()))
    assert (answer.version, answer.page.total, answer.page.rows) == (VERSION, 0, [])
    assert answer.positions == dict.fromkeys(LOGS, 0)
