"""``pattern_history``, folded from the archive: equal to the oracle at every moment, whatever happens meanwhile."""

from collections.abc import Sequence
from time import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection
from psycopg.sql import SQL, Identifier
from redis import Redis

from domain.codec import decode, topic_of
from domain.events import Event, PatternDetected
from domain.streams import log_of, market_logs
from infra.archive.leases import LeaseLostError
from infra.archive.pattern_history.projector import PatternHistoryProjector, State
from infra.archive.pattern_history.versions import remove_previous_version, switch_live_version
from infra.log.event_log import EventLog, NewEvent
from infra.postgres.database import Database
from projections.pattern_history import TIMELINES, Timeline
from projections.patterns import PatternRow
from projections.queries import HistoryPage, PatternQuery
from tests.archiving import archive_to_end, archived_log
from tests.events import new_events
from tests.integration.test_pattern_queries import pattern_queries
from tests.oracles import queries as oracle
from tests.oracles.pattern_history import RecordedEvent, moments_of_change, patterns_at
from tests.pattern_history import fold_history, history_lease, scan_histories, scan_history, truncate_archive
from tests.strategies import histories

LOGS = market_logs(2)
EVERYTHING = 1_000

MIDST = 878_550_000
"""Of the moments of the strategies, which lie within 50,000 seconds of it."""


def lately(event: Event) -> Event:
    """The event as if the strategies' 28 hours were the second around now, in which it will be recorded."""
    now = time()

    def moved(moment: float) -> float:
        return round(now + (moment - MIDST) / 100_000, 3)

    changes: dict[str, Any] = {"occurred_at": moved(event.occurred_at)}
    if getattr(event, "expires_at", None) is not None:
        changes["expires_at"] = moved(event.expires_at)  # type: ignore[attr-defined]
    return event.model_copy(update=changes)


def record(redis: Redis, database: Database, events: Sequence[Event]) -> None:
    """Append to the log that each belongs to, one after the other, so that there are many moments."""
    logs = {name: archived_log(redis, database, name) for name in LOGS}
    for log in logs.values():
        log.open()
    for event in events:
        logs[log_of(event.stream, len(LOGS))].append(new_events([lately(event)]))


def archive_and_fold(redis: Redis, database: Database, batch_size: int = 100) -> None:
    for name in LOGS:
        archive_to_end(database, archived_log(redis, database, name), batch_size)
        fold_history(database, name, batch_size)


def past_of(redis: Redis, log: str) -> list[RecordedEvent]:
    """The log as it was recorded."""
    return [
        RecordedEvent(decode(entry.topic, entry.event_id, entry.state), entry.position, entry.recorded_at)
        for entry in EventLog(redis, log).read(0, EVERYTHING)
    ]


def assert_answer(
    answer: HistoryPage, query: PatternQuery, timeline: Timeline, pasts: dict[str, list[RecordedEvent]]
) -> None:
    """Rows, order, total, provenance and positions are those of the oracle."""
    then = {
        key: (PatternRow(**one.row), log, one.position)
        for log, past in pasts.items()
        for key, one in patterns_at(past, timeline, query.now).items()
    }
    expected = oracle.scan([row for row, *_ in then.values()], query)
    assert [found.row.id for found in answer.page.rows] == expected.ids
    assert (answer.page.total, answer.page.end) == (expected.total, expected.end)
    assert all(tuple(found) == then[found.row.id] for found in answer.page.rows)
    assert answer.positions == {log: len(past) for log, past in pasts.items()}


def assert_equals_the_oracle(redis: Redis, database: Database) -> None:
    """At every moment, on both timelines."""
    pasts = {log: past_of(redis, log) for log in LOGS}
    moments = sorted({moment for past in pasts.values() for moment in moments_of_change(past)})
    asked = [
        (PatternQuery(moment, sort_by="symbol", limit=EVERYTHING), timeline)
        for moment in moments
        for timeline in TIMELINES
    ]
    for (query, timeline), answer in zip(asked, scan_histories(database, LOGS, asked), strict=True):
        assert_answer(answer, query, timeline, pasts)


on_servers = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@on_servers
@given(
    histories,
    st.lists(st.tuples(pattern_queries(), st.integers(0, 10**6), st.sampled_from(TIMELINES)), min_size=5, max_size=15),
    st.integers(1, 20),
)
def test_a_scan_as_of_any_moment_equals_the_oracle(
    redis: Redis,
    database: Database,
    history: list[Event],
    questions: list[tuple[PatternQuery, int, Timeline]],
    batch_size: int,
) -> None:
    redis.flushall()
    truncate_archive(database)
    cut = len(history) // 2
    record(redis, database, history[:cut])
    archive_and_fold(redis, database, batch_size)
    record(redis, database, history[cut:])
    archive_and_fold(redis, database, batch_size)

    pasts = {log: past_of(redis, log) for log in LOGS}
    moments = [moment for past in pasts.values() for moment in moments_of_change(past)]
    asked: list[tuple[PatternQuery, Timeline]] = [
        (query._replace(now=moments[choice % len(moments)]), timeline) for query, choice, timeline in questions
    ]
    for (query, timeline), answer in zip(asked, scan_histories(database, LOGS, asked), strict=True):
        assert_answer(answer, query, timeline, pasts)
    assert_equals_the_oracle(redis, database)


def detections(count: int, symbol: str = "AAPL") -> list[Event]:
    """Of as many moments, each announced with a confidence and then with another."""
    now = time()
    known = {"source": "test", "symbol": symbol, "pattern": "Doji", "tier": "daily", "occurred_at": now}
    return [
        PatternDetected.model_validate(
            {**known, "event_id": f"{symbol}{number}{half}", "detected_at": now - number, "confidence": half}
        )
        for number in range(count)
        for half in (0.5, 0.75)
    ]


class Crashing(PatternHistoryProjector):
    """Crashes after all has been written, before it is committed."""

    crashes = 0

    def _insert(self, connection: Connection, states: Sequence[State]) -> None:
        super()._insert(connection, states)
        self.crashes += 1
        if self.crashes % 2:
            raise ZeroDivisionError


def test_a_crash_loses_nothing_and_does_nothing_twice(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOGS[0])
    log.append(new_events(detections(20)))
    archive_to_end(database, log)
    projector = Crashing(database, history_lease(database, log.name), 7)
    with database.connection() as connection:
        switch_live_version(connection, 1)
    folded = 0
    while folded < 40:
        with pytest.raises(ZeroDivisionError):
            projector.step()
        assert scan_history(database, LOGS, PatternQuery(time())).positions[log.name] == folded
        folded += projector.step()
    assert (projector.step(), projector.crashes) == (0, 12)
    assert_equals_the_oracle(redis, database)
    with database.connection() as connection:
        [[rows]] = connection.execute("SELECT count(*) FROM tickview.pattern_history_recorded")
    assert rows == len({one.recorded_at for one in past_of(redis, log.name)}) * 20


def test_an_owner_that_stalled_is_refused(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOGS[0])
    log.append(new_events(detections(10)))
    archive_to_end(database, log)
    stalled = PatternHistoryProjector(database, history_lease(database, log.name, "stalled", seconds=0), 8)
    following = PatternHistoryProjector(database, history_lease(database, log.name, "following"), 8)
    with pytest.raises(LeaseLostError):
        stalled.step()
    assert following.step() == 8
    with pytest.raises(LeaseLostError):
        stalled.step()
    assert [following.step() for _ in range(3)] == [8, 4, 0]
    with database.connection() as connection:
        switch_live_version(connection, 1)
    assert_equals_the_oracle(redis, database)


def test_what_cannot_be_read_is_passed_over(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOGS[0])
    good = new_events(detections(2))
    nameless = [
        detections(1)[0].model_copy(update={field: name, "event_id": f"{field} {len(name)}"})
        for field in ("pattern", "tier")
        for name in ("nul\0", "x" * 5_000, "\U0001f4c8" * 900)
    ]
    log.append(
        [
            good[0],
            NewEvent("symbol-AAPL", topic_of(PatternDetected), b"no JSON"),
            NewEvent("symbol-AAPL", topic_of(PatternDetected), b"{}"),
            NewEvent("symbol-AAPL", "another.application:Event", b"\xff"),
            *new_events(nameless),
            *good[1:],
        ]
    )
    archive_to_end(database, log)
    assert fold_history(database, log.name, 3) == 13
    answer = scan_history(database, LOGS, PatternQuery(time() + 1))
    assert {found.position for found in answer.page.rows} == {11, 13}
    assert answer.positions == {LOGS[0]: 13, LOGS[1]: 0}


def test_a_detection_whose_events_have_been_detached_stays_as_it_was(redis: Redis, database: Database) -> None:
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
    answer = scan_history(database, LOGS, PatternQuery(time() + 1))
    assert {found.position for found in answer.page.rows} == {2, 6}
    assert answer.positions[log.name] == 6


def versions_of(database: Database, table: str) -> set[int]:
    with database.connection() as connection:
        statement = SQL("SELECT DISTINCT version FROM {}").format(Identifier("tickview", table))
        return {version for (version,) in connection.execute(statement)}


def test_a_version_answers_until_the_next_is_as_far_and_is_then_removed(redis: Redis, database: Database) -> None:
    logs = [archived_log(redis, database, name) for name in LOGS]
    for log in logs:
        log.open()
    for log, symbol in zip(logs, ("AAPL", "MSFT"), strict=True):
        log.append(new_events(detections(10, symbol)))
        archive_to_end(database, log)
        assert fold_history(database, log.name) == 20
    following = [PatternHistoryProjector(database, history_lease(database, log.name, version=2), 15) for log in logs]

    def answering() -> tuple[int, int, dict[str, int]]:
        with database.connection() as connection:
            switch_live_version(connection, 2)
        answer = scan_history(database, LOGS, PatternQuery(time()))
        return answer.version, answer.page.total, dict(answer.positions)

    old = (1, 20, dict.fromkeys(LOGS, 20))
    assert answering() == old
    for projector, read in zip((*following, following[0]), (15, 15, 5), strict=True):
        assert projector.step() == read
        assert answering() == old
    logs[1].append(new_events(detections(1, "NVDA")))
    archive_to_end(database, logs[1])
    assert following[1].step() == 7
    assert answering() == (2, 21, {LOGS[0]: 20, LOGS[1]: 22})
    assert_equals_the_oracle(redis, database)

    with database.connection() as connection:
        assert not switch_live_version(connection, 1)
        assert remove_previous_version(connection, 7) == 0, "as long as somebody works on it"
        connection.execute("UPDATE tickview.segments SET leased_until = now() WHERE version = 1 AND name <> 'archive'")
    removed = []
    while not removed or removed[-1]:
        with database.connection() as connection:
            removed.append(remove_previous_version(connection, 7))
    assert (max(removed), sum(removed)) == (21, 80)
    for table in ("pattern_history", "pattern_events"):
        assert versions_of(database, table) == {2}
    with database.connection() as connection:
        assert connection.execute("SELECT FROM tickview.segments WHERE name = 'pattern_history'").rowcount == 2
    assert_equals_the_oracle(redis, database)


def test_events_of_other_kinds_move_the_checkpoint(redis: Redis, database: Database) -> None:
    log = archived_log(redis, database, LOGS[0])
    log.append([NewEvent("backtest-1", "another:Event", b"") for _ in range(10)])
    archive_to_end(database, log)
    assert fold_history(database, log.name, 4) == 10
    assert scan_history(database, LOGS, PatternQuery(time())).positions[log.name] == 10


def test_before_anything_is_folded_the_answer_is_empty(database: Database) -> None:
    answer = scan_history(database, LOGS, PatternQuery(time()))
    assert (answer.version, answer.page.total, answer.page.rows) == (1, 0, [])
    assert answer.positions == dict.fromkeys(LOGS, 0)
