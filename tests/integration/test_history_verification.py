"""Verification of the histories on real servers: every change of their tables in SQL is detected and named."""
# ruff: noqa: S608 the tests compose SQL of constants

import pytest
from hypothesis import HealthCheck, given, settings
from redis import Redis

from domain.events import Event
from infra.archive.ranges import ArchiveRange
from infra.archive.row_history.versions import restart_version
from infra.archive.verification import history_segments
from infra.archive.verification.histories import HistoryVerification, verify_histories
from infra.archive.verification.history_rows import HistoryFinding
from infra.archive.verification.history_segments import Scope
from infra.postgres.database import Database
from projections.patterns import ActivePatterns
from tests.archiving import archive_to_end, archived_log
from tests.events import new_events
from tests.integration.archive_support import detections
from tests.integration.test_row_history_projector import archive_and_fold, record
from tests.row_history import PATTERNS, clear_archive, fold_history
from tests.strategies import histories

SYMBOLS = ("AAPL", "MSFT", "NVDA")
LOG = "market-0"
WHOLE = ArchiveRange()


@pytest.fixture
def folded(redis: Redis, database: Database) -> Database:
    """An archive of eighteen events of nine detections, with their history."""
    log = archived_log(redis, database, LOG)
    log.open()
    for symbol in SYMBOLS:
        for event in detections(3, symbol):
            log.append(new_events([event]))
    archive_to_end(database, log)
    fold_history(database, LOG)
    return database


def run(database: Database, statement: str) -> int:
    with database.connection() as connection:
        return connection.execute(statement.encode()).rowcount


def results(database: Database, scope: Scope = WHOLE) -> list[HistoryVerification]:
    return verify_histories(database, [ActivePatterns()], lambda *_: None, scope=scope)


def first_finding(database: Database, scope: Scope = WHOLE) -> HistoryFinding | None:
    return next((result.finding for result in results(database, scope) if result.finding), None)


def key_of(symbol: str) -> str:
    """Return SQL that finds the first key of a symbol."""
    return f"(SELECT min(key) FROM tickview.pattern_history WHERE text_symbol = '{symbol}')"


FIRST = f"key = {key_of('MSFT')} AND upper_inf(recorded)"
SET_RECORDED = "UPDATE tickview.pattern_history SET recorded ="


def copied(**changes: str) -> str:
    """Return SQL that inserts copies of rows with other values in some columns."""
    names = ["version", "position", "recorded", "valid"]
    names += [column.name for column in PATTERNS.columns]
    names += ["key", "log", "document"]
    return f"""
        INSERT INTO tickview.pattern_history ({", ".join(names)})
        SELECT {", ".join(changes.get(name, name) for name in names)} FROM tickview.pattern_history
        WHERE {FIRST}
    """


TAMPERING = {
    "a number that filters": ("changed", f"UPDATE tickview.pattern_history SET number_confidence = 0.99 WHERE {FIRST}"),
    "a text that sorts": ("changed", f"UPDATE tickview.pattern_history SET text_symbol = 'ZZZZ' WHERE {FIRST}"),
    "a group": ("changed", f"UPDATE tickview.pattern_history SET group_symbol = 'ZZZZ' WHERE {FIRST}"),
    "the document": (
        "changed",
        f"""UPDATE tickview.pattern_history
        SET document = convert_to(replace(convert_from(document, 'UTF8'), '0.75', '0.99'), 'UTF8') WHERE {FIRST}""",
    ),
    "the position": ("changed", f"UPDATE tickview.pattern_history SET position = 1 WHERE {FIRST}"),
    "the end of an interval": (
        "changed",
        f"{SET_RECORDED} tstzrange(lower(recorded), lower(recorded) + '1 second') WHERE {FIRST}",
    ),
    "the form of an interval": (
        "changed",
        f"{SET_RECORDED} tstzrange(lower(recorded), upper(recorded), '()') WHERE {FIRST}",
    ),
    "a start without end": (
        "added",
        f"{SET_RECORDED} tstzrange('-infinity', upper(recorded)) WHERE {FIRST}",
    ),
    "the start of an interval": (
        "missing",
        f"{SET_RECORDED} tstzrange(lower(recorded) + '1 second', upper(recorded)) WHERE {FIRST}",
    ),
    "the timeline": (
        "missing",
        f"{SET_RECORDED} NULL WHERE {FIRST}",
    ),
    "a removed row": ("missing", f"DELETE FROM tickview.pattern_history WHERE {FIRST}"),
    "a row twice": ("added", copied()),
    "a row of another log": ("missing", f"UPDATE tickview.pattern_history SET log = 'market-1' WHERE {FIRST}"),
    "a row under an unknown key": ("added", copied(key='\'["no","such","key"]\'')),
    "a row under an empty key": ("added", copied(key="''")),
    "a row of an unknown log": ("added", copied(log="'market-99'")),
    "all rows": ("missing", "DELETE FROM tickview.pattern_history"),
    "an event of a unit removed": ("missing", "DELETE FROM tickview.patterns_events WHERE position = 7"),
    "an event of a unit added": (
        "added",
        """INSERT INTO tickview.patterns_events
        SELECT version, unit, log, 18, recorded_at FROM tickview.patterns_events WHERE position = 7""",
    ),
    "the time of an event of a unit": (
        "changed",
        "UPDATE tickview.patterns_events SET recorded_at = recorded_at + '1 microsecond' WHERE position = 7",
    ),
    "an infinite time": ("changed", "UPDATE tickview.patterns_events SET recorded_at = 'infinity' WHERE position = 7"),
    "the checkpoint too low": (
        "added",
        "UPDATE tickview.segments SET position = 17 WHERE name = 'pattern_history'",
    ),
    "the checkpoint too high": (
        "changed",
        "UPDATE tickview.segments SET position = 99 WHERE name = 'pattern_history'",
    ),
    "the live version": ("changed", "UPDATE tickview.live_versions SET version = 99"),
    "the table": ("changed", "DROP TABLE tickview.pattern_history"),
}


@pytest.mark.parametrize(("kind", "statement"), TAMPERING.values(), ids=TAMPERING.keys())
def test_verification_names_the_first_row_that_differs(folded: Database, kind: str, statement: str) -> None:
    assert first_finding(folded) is None
    with folded.connection() as connection:
        [[key]] = connection.execute(f"SELECT {key_of('MSFT')}".encode())
    run(folded, statement)
    finding = first_finding(folded)
    assert finding is not None
    assert finding.kind == kind
    if statement.endswith(FIRST):
        assert (finding.key, finding.timeline) == (key, "recorded")
        assert (finding.since is None) == ("-infinity" in statement)
    assert first_finding(folded, "sample") == finding, "a log with few events is verified as a whole"


def test_the_rebuild_restores_the_history(folded: Database) -> None:
    [before] = results(folded)
    run(folded, "UPDATE tickview.pattern_history SET number_confidence = 0.99")
    run(folded, copied(log="'market-99'"))
    run(folded, "UPDATE tickview.live_versions SET version = 99")
    with folded.connection() as connection:
        assert restart_version(connection, PATTERNS, ActivePatterns.version) == before.rows + 2
    [emptied] = results(folded)
    assert (emptied.rows, emptied.finding) == (0, None)
    fold_history(folded, LOG)
    assert results(folded) == [before]


def test_a_range_verifies_the_units_of_its_events(folded: Database) -> None:
    run(folded, f"UPDATE tickview.pattern_history SET number_confidence = 0.99 WHERE {FIRST}")
    assert first_finding(folded, ArchiveRange(1, 6)) is None
    assert first_finding(folded, ArchiveRange(13, 18)) is None
    finding = first_finding(folded, ArchiveRange(7, 12))
    assert finding is not None
    assert (finding.kind, finding.timeline) == ("changed", "recorded")
    assert "number_confidence" in finding.detail


def test_a_range_notices_an_event_that_the_history_does_not_name(folded: Database) -> None:
    run(folded, "DELETE FROM tickview.patterns_events WHERE position = 7")
    assert first_finding(folded, ArchiveRange(1, 6)) is None
    finding = first_finding(folded, ArchiveRange(7, 7))
    assert finding is not None
    assert (finding.kind, "event 7" in finding.detail) == ("missing", True)


def test_a_range_notices_a_row_that_an_event_of_the_range_did_not_produce(folded: Database) -> None:
    run(folded, copied(key="'invented'", position="15"))
    assert first_finding(folded, ArchiveRange(1, 14)) is None
    finding = first_finding(folded, ArchiveRange(15, 15))
    assert finding is not None
    assert (finding.kind, finding.key) == ("added", "invented")


def test_a_sample_notices_rows_that_a_query_finds_at_any_moment(
    folded: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sample is smaller than the log, and the row belongs to none of its events."""
    monkeypatch.setattr(history_segments, "SAMPLE_EVENTS", 5)
    for _ in range(20):
        assert first_finding(folded, "sample") is None
    run(folded, copied(key="'invented'", position="0", recorded="tstzrange('-infinity', NULL)"))
    monkeypatch.setattr(history_segments, "SAMPLE_EVENTS", 17)
    finding = first_finding(folded, "sample")
    assert finding is not None
    assert (finding.kind, finding.key) == ("added", "invented")


def test_units_with_events_in_detached_months_are_skipped(redis: Redis, folded: Database) -> None:
    del redis
    with folded.connection() as connection:
        [[name]] = connection.execute("SELECT relname FROM pg_class WHERE relname LIKE 'events_20%' AND relkind = 'r'")
    run(folded, f"ALTER TABLE tickview.events DETACH PARTITION tickview.{name}")
    [result] = results(folded)
    assert (result.finding, result.rows, result.skipped) == (None, 0, len(SYMBOLS) * 3)


def test_a_version_of_another_release_is_not_verified(folded: Database) -> None:
    run(folded, "UPDATE tickview.segments SET version = 99 WHERE name = 'pattern_history'")
    run(folded, "UPDATE tickview.live_versions SET version = 99")
    [result] = results(folded)
    assert (result.finding, result.rows) == (None, 0)
    assert result.note is not None
    assert "version 99 is live" in result.note


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(histories)
def test_no_history_that_was_folded_in_batches_differs(redis: Redis, database: Database, events: list[Event]) -> None:
    redis.flushall()
    clear_archive(database)
    half = len(events) // 2
    for part in (events[:half], events[half:]):
        record(redis, database, part)
        archive_and_fold(redis, database, batch_size=3)
    assert first_finding(database) is None
    assert first_finding(database, ArchiveRange(2, 5)) is None
    assert sum(result.events for result in results(database)) == len(events)
