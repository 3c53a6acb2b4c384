"""Verification on real servers: every change of the archive in SQL is detected and named."""
# ruff: noqa: S608 the tests compose SQL of constants

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from redis import Redis

from domain.log import LogEntry
from infra.archive.archiver import Archiver
from infra.archive.errors import AuditError
from infra.archive.ranges import ArchiveRange, parse_range_end
from infra.archive.verification.tamper_detection import TamperFinding
from infra.archive.verification.verify import WHOLE_ARCHIVE, last_verification, record_verification, verify
from infra.postgres.database import Database
from infra.redis.connections import connect
from tests import servers
from tests.archiving import acquire_archiver_lease, archived_log
from tests.conftest import open_database

LOG = "market-0"
EVENTS = 12
TABLES = ("events", "logs", "segments", "anchors")
MONTHS = [(2025, 11)] * 4 + [(2025, 12)] * 4 + [(2026, 1)] * 4


def moment(position: int) -> datetime:
    return datetime(*MONTHS[position - 1], 1 + position, tzinfo=UTC)


def entry(position: int) -> LogEntry:
    state = orjson.dumps({"source": f"producer-{position % 3}", "value": position})
    recorded_at = moment(position).timestamp()
    return LogEntry(position, "symbol-A", position, "t:One", f"id-{position}", recorded_at, state, "http")


def archive_months(client: Redis, database: Database, name: str = LOG) -> Archiver:
    """Archive twelve events of three months."""
    log = archived_log(client, database, name)
    log.open()
    archiver = Archiver(database, log, acquire_archiver_lease(database, name), 100)
    archiver.archive([entry(position) for position in range(1, 7)])
    archiver.archive([entry(position) for position in range(7, EVENTS + 1)])
    return archiver


@pytest.fixture
def database(every_database: Database, redis: Redis) -> Database:
    """Archive of one log, once on each version of PostgreSQL."""
    archive_months(redis, every_database)
    return every_database


@pytest.fixture(scope="module", params=["postgres_18_dsn", "postgres_15_dsn"])
def common_archive(request: pytest.FixtureRequest, valkey_url: str) -> Iterator[Database]:
    """Archive of one log, once on each version of PostgreSQL, with a copy of each table in the schema ``public``."""
    with (
        servers.new_database(request.getfixturevalue(request.param), servers.TEMPLATE) as dsn,
        open_database(dsn) as database,
        connect(valkey_url) as redis,
    ):
        redis.flushall()
        archive_months(redis, database)
        run(database, *(f"CREATE TABLE public.{table} AS SELECT * FROM tickview.{table}" for table in TABLES))
        yield database


@pytest.fixture
def changeable(common_archive: Database) -> Iterator[Database]:
    """The common archive. At the end its rows are restored, in half the time that a new database takes."""
    yield common_archive
    for table in TABLES:
        run(
            common_archive,
            f"DELETE FROM tickview.{table}",
            f"INSERT INTO tickview.{table} SELECT * FROM public.{table}",
        )


def run(database: Database, *statements: str) -> None:
    with database.connection() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def first_finding(
    database: Database, bounds: ArchiveRange = WHOLE_ARCHIVE, since: date | None = None
) -> TamperFinding | None:
    verification = verify(database, LOG, bounds, since=since)
    assert verification.ok is (verification.logs[0].finding is None)
    return verification.logs[0].finding


DELETE_5 = "DELETE FROM tickview.events WHERE position = 5"
CLOSE_GAP = "UPDATE tickview.events SET position = position - 1 WHERE position > 5"
MAKE_ROOM = "UPDATE tickview.events SET position = position + 1 WHERE position >= 5"


def insert_copy(position: int, like: int, event_id: str = "'another'", hash_: str = "hash", log: str = "log") -> str:
    """Return SQL that inserts a copy of the row at position ``like`` at ``position``."""
    return f"""
        INSERT INTO tickview.events
        SELECT {log}, {position}, recorded_at, stream, version, topic, {event_id}, source, correlation_id,
            origin, state, {hash_}
        FROM tickview.events WHERE position = {like}
    """


def exchange(first: int, second: int, *columns: str) -> str:
    """Return SQL that exchanges columns between the rows at two positions."""
    values = ", ".join(f"{column} = other.{column}" for column in columns)
    return f"""
        UPDATE tickview.events SET {values} FROM (SELECT * FROM tickview.events) AS other
        WHERE (events.position = {first} AND other.position = {second})
        OR (events.position = {second} AND other.position = {first})
    """


CONTENT = ("recorded_at", "stream", "version", "topic", "event_id", "source", "correlation_id", "origin", "state")

CHANGED: dict[str, list[str]] = {
    "state": ["UPDATE tickview.events SET state = '{}' WHERE position = 5"],
    "source": ["UPDATE tickview.events SET source = 'nobody' WHERE position = 5"],
    "source set to null": ["UPDATE tickview.events SET source = NULL WHERE position = 5"],
    "correlation": ["UPDATE tickview.events SET correlation_id = '' WHERE position = 5"],
    "origin": ["UPDATE tickview.events SET origin = 'retry' WHERE position = 5"],
    "stream": ["UPDATE tickview.events SET stream = 'symbol-B' WHERE position = 5"],
    "version": ["UPDATE tickview.events SET version = version + 1 WHERE position = 5"],
    "topic": ["UPDATE tickview.events SET topic = 't:Two' WHERE position = 5"],
    "event id": ["UPDATE tickview.events SET event_id = 'id-4' WHERE position = 5"],
    "recorded_at by a microsecond": [
        "UPDATE tickview.events SET recorded_at = recorded_at + '1 microsecond' WHERE position = 5"
    ],
    "recorded_at by a month": ["UPDATE tickview.events SET recorded_at = '2026-01-02Z' WHERE position = 5"],
    "hash": ["UPDATE tickview.events SET hash = sha256(hash) WHERE position = 5"],
    "empty hash": ["UPDATE tickview.events SET hash = '' WHERE position = 5"],
    "long hash": ["UPDATE tickview.events SET hash = hash || hash WHERE position = 5"],
    "state of some later events too": ["UPDATE tickview.events SET state = '{}' WHERE position IN (5, 6, 9)"],
    "state of all later events too": ["UPDATE tickview.events SET state = '{}' WHERE position >= 5"],
}
MISSING: dict[str, list[str]] = {
    "event 5": [DELETE_5],
    "events 5 to 8": ["DELETE FROM tickview.events WHERE position BETWEEN 5 AND 8"],
    "event 5, later events renumbered": [DELETE_5, CLOSE_GAP],
    "events 5 to 8, later events renumbered": [
        "DELETE FROM tickview.events WHERE position BETWEEN 5 AND 8",
        "UPDATE tickview.events SET position = position - 4 WHERE position > 8",
    ],
    "events 5 to 11, last event renumbered": [
        "DELETE FROM tickview.events WHERE position BETWEEN 5 AND 11",
        "UPDATE tickview.events SET position = 5 WHERE position = 12",
    ],
    "event 5 and all later events": ["DELETE FROM tickview.events WHERE position >= 5"],
    "event 5 moved to another log": ["UPDATE tickview.events SET log = 'market-1' WHERE position = 5"],
    "event 5 moved behind the end": ["UPDATE tickview.events SET position = 99 WHERE position = 5"],
}
ADDED: dict[str, list[str]] = {
    "copy of event 5": [insert_copy(5, like=5, event_id="event_id")],
    "second event at position 5": [insert_copy(5, like=4)],
    "second event at position 5 in a later month": [insert_copy(5, like=11)],
    "copy of event 4, later events renumbered": [MAKE_ROOM, insert_copy(5, like=4)],
    "copy of a later event, later events renumbered": [MAKE_ROOM, insert_copy(5, like=10, event_id="event_id")],
    "two events, later events renumbered": [MAKE_ROOM, MAKE_ROOM, insert_copy(5, like=4), insert_copy(6, like=4)],
}  # fmt: skip
EXCHANGED: dict[str, tuple[str, ...]] = {
    "positions": ("position",),
    "contents": CONTENT,
    "positions and hashes": ("position", "hash"),
    "states": ("state",),
}


def cases(kind: str, tampering: dict[str, list[str]]) -> list[Any]:
    return [pytest.param(kind, statements, id=f"{kind}: {name}") for name, statements in tampering.items()]


@pytest.mark.parametrize(
    ("kind", "statements"), [*cases("changed", CHANGED), *cases("missing", MISSING), *cases("added", ADDED)]
)
def test_verification_names_the_change_of_event_5(changeable: Database, kind: str, statements: list[str]) -> None:
    assert first_finding(changeable) is None
    run(changeable, *statements)
    finding = first_finding(changeable)
    assert finding is not None
    assert (finding.position, finding.kind) == (5, kind)
    assert first_finding(changeable, ArchiveRange(end=4)) is None
    assert first_finding(changeable, ArchiveRange(start=2)) == finding


@pytest.mark.parametrize("second", [6, 7, 12], ids=["adjacent", "near", "far"])
@pytest.mark.parametrize("names", EXCHANGED.values(), ids=EXCHANGED.keys())
def test_verification_names_both_events_that_were_swapped(
    changeable: Database, names: tuple[str, ...], second: int
) -> None:
    run(changeable, exchange(5, second, *names))
    finding = first_finding(changeable)
    assert finding is not None
    assert (finding.position, finding.kind) == (5, "swapped")
    assert finding.detail.startswith(f"with {second}:")
    assert first_finding(changeable, ArchiveRange(end=5)) == finding


@pytest.mark.parametrize(
    ("statement", "position", "kind"),
    [
        ("DELETE FROM tickview.events WHERE position = 12", 12, "missing"),
        ("DELETE FROM tickview.events WHERE position = 1", 1, "missing"),
        ("DELETE FROM tickview.events WHERE position <= 4", 1, "missing"),
        ("DELETE FROM tickview.events WHERE position <= 6", 1, "missing"),
        ("DELETE FROM tickview.events", 1, "missing"),
        (insert_copy(13, like=12), 13, "added"),
        (insert_copy(15, like=12, hash_="sha256(hash)"), 15, "added"),
        (insert_copy(0, like=1), 0, "added"),
        ("UPDATE tickview.events SET hash = sha256(hash) WHERE position = 12", 12, "changed"),
        ("UPDATE tickview.events SET state = '' WHERE position = 12", 12, "changed"),
        ("UPDATE tickview.logs SET hash = sha256(hash)", 12, "changed"),
        ("DELETE FROM tickview.logs", 12, "missing"),
        ("UPDATE tickview.segments SET position = 11", 12, "added"),
        ("UPDATE tickview.segments SET position = 14", 13, "missing"),
        ("DELETE FROM tickview.segments", 12, "missing"),
        ("UPDATE tickview.anchors SET hash = sha256(hash) WHERE position = 8", 8, "changed"),
    ],
)
def test_verification_detects_changes_at_the_ends_and_in_the_bookkeeping_tables(
    changeable: Database, statement: str, position: int, kind: str
) -> None:
    run(changeable, statement)
    finding = first_finding(changeable)
    assert finding is not None
    assert (finding.position, finding.kind) == (position, kind)


def test_events_of_a_log_without_an_archiver_are_reported_as_added(database: Database) -> None:
    run(database, insert_copy(1, like=1, log="'market-9'"))
    known, unknown = verify(database).logs
    assert (known.log, known.finding, unknown.log) == (LOG, None, "market-9")
    assert unknown.finding is not None


def test_an_unchanged_archive_verifies_completely_and_in_ranges(database: Database) -> None:
    [complete] = verify(database, LOG).logs
    assert (complete.first, complete.last, complete.events, complete.finding) == (1, 12, 12, None)
    with database.connection() as connection:
        [[head]] = connection.execute("SELECT hash FROM tickview.logs")
    assert complete.hash == head.hex()
    for start, end, first, last in [
        (None, 7, 1, 7),
        (4, 9, 4, 9),
        (12, None, 12, 12),
        (1, 99, 1, 12),
        ("2025-12-01", None, 5, 12),
        (None, moment(8).isoformat(), 1, 7),
        (moment(3).isoformat(), moment(3).isoformat().replace("00:00:00", "00:00:01"), 3, 3),
        (13, None, None, None),
        ("2027-01-01", None, None, None),
        (None, "2020-01-01", None, None),
    ]:
        bounds = ArchiveRange(*(None if bound is None else parse_range_end(str(bound)) for bound in (start, end)))
        [part] = verify(database, LOG, bounds).logs
        assert (part.first, part.last, part.finding) == (first, last, None), bounds


def test_verification_of_an_unknown_log_is_refused(database: Database) -> None:
    with pytest.raises(AuditError, match=r"no log users\. It has: market-0"):
        verify(database, "users")


def detach(database: Database, *months: str) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for month in months:
            connection.execute(
                f"ALTER TABLE tickview.events DETACH PARTITION tickview.events_{month} CONCURRENTLY".encode()
            )


SINCE_DECEMBER, SINCE_FEBRUARY = date(2025, 12, 1), date(2026, 2, 1)


def test_a_detached_month_is_reported_unless_it_was_declared(database: Database) -> None:
    detach(database, "2025_11")
    for since in (None, date(2025, 11, 1)):
        finding = first_finding(database, since=since)
        assert finding is not None
        assert (finding.position, finding.kind) == (1, "missing")
        assert "events_2025_11" in finding.detail
        assert "TICKVIEW_ARCHIVE_SINCE" in finding.detail
    assert first_finding(database, since=SINCE_DECEMBER) is None
    detach(database, "2025_12")
    finding = first_finding(database, since=SINCE_DECEMBER)
    assert finding is not None
    assert (finding.position, finding.kind) == (5, "missing")
    assert "(events_2025_12)" in finding.detail
    assert first_finding(database, ArchiveRange(start=9)) is None
    part = first_finding(database, ArchiveRange(start=7))
    assert part is not None
    assert part.position == 7


@pytest.mark.parametrize("hide", ["DELETE FROM tickview.anchors WHERE position < 4", "DELETE FROM tickview.anchors"])
def test_a_detached_month_is_reported_if_its_anchor_was_removed(database: Database, hide: str) -> None:
    detach(database, "2025_11")
    run(database, hide)
    finding = first_finding(database, since=SINCE_DECEMBER)
    assert finding is not None
    assert (finding.position, finding.kind) == (1, "missing")


def test_an_archive_without_declared_months_verifies(database: Database) -> None:
    detach(database, "2025_11")
    [remaining] = verify(database, since=SINCE_DECEMBER).logs
    assert (remaining.first, remaining.last, remaining.finding) == (5, 12, None)
    [part] = verify(database, archive_range=ArchiveRange(start=2, end=6), since=SINCE_DECEMBER).logs
    assert (part.first, part.last, part.finding) == (5, 6, None)
    [part] = verify(database, archive_range=ArchiveRange(start=5)).logs
    assert (part.first, part.last, part.finding) == (5, 12, None)
    run(database, "DELETE FROM tickview.events WHERE position = 5")
    finding = first_finding(database, since=SINCE_DECEMBER)
    assert finding is not None
    assert (finding.position, finding.kind) == (5, "missing")


def test_an_archive_without_any_month_is_reported_unless_this_was_declared(database: Database) -> None:
    detach(database, "2025_11", "2025_12", "2026_01")
    [empty] = verify(database, since=SINCE_FEBRUARY).logs
    assert (empty.events, empty.finding) == (0, None)
    finding = first_finding(database)
    assert finding is not None
    assert (finding.position, finding.kind) == (1, "missing")


def test_a_log_whose_only_month_is_detached_is_reported_unless_this_was_declared(
    redis: Redis, database: Database
) -> None:
    log = archived_log(redis, database, "users")
    log.open()
    Archiver(database, log, acquire_archiver_lease(database, "users"), 100).archive([entry(1), entry(2)])
    detach(database, "2025_11")
    [quiet] = verify(database, "users", since=SINCE_DECEMBER).logs
    assert (quiet.events, quiet.finding) == (0, None)
    [quiet] = verify(database, "users").logs
    assert quiet.finding is not None
    assert (quiet.finding.position, quiet.finding.kind) == (1, "missing")


def test_events_of_a_detached_month_in_the_middle_are_missing(database: Database) -> None:
    detach(database, "2025_12")
    finding = first_finding(database)
    assert finding is not None
    assert (finding.position, finding.kind) == (5, "missing")


def test_archiving_continues_during_verification(redis: Redis, database: Database) -> None:
    """Events that are archived after the start of a verification are not verified."""
    archiver = archive_months(redis, database, "users")
    later = [entry(EVENTS)._replace(position=position) for position in range(EVENTS + 1, EVENTS + 5)]

    def archive_one(log: str, _done: int, _total: int) -> None:
        if log == "users":
            archiver.archive([later.pop(0)])

    first = verify(database, progress=archive_one)
    assert first.ok
    assert len(later) == 3
    assert [log.last for log in first.logs] == [12, 12]
    assert [log.last for log in verify(database).logs] == [12, 13]


def test_the_summary_of_the_last_verification_is_stored(database: Database) -> None:
    assert last_verification(database) is None
    verification = verify(database)
    record_verification(database, verification)
    run(database, *CHANGED["state"])
    summary = last_verification(database)
    assert summary is not None
    document = verification.document()
    for part in ("logs", "histories", "heads"):
        assert summary.pop(part) == document.pop(part)
    assert summary == pytest.approx(document, rel=1e-2)
    second = verify(database)
    record_verification(database, second)
    summary = last_verification(database)
    assert summary is not None
    assert (summary["ok"], summary["events"]) == (False, 4)
    assert summary["logs"][0]["misfit"]["kind"] == "changed"
    assert summary["started_at"] == pytest.approx(second.started_at, abs=1e-5)


VALUES: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
    **dict.fromkeys(
        ["log", "stream", "topic", "event_id", "source", "correlation_id", "origin"],
        lambda: st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
    ),
    "position": lambda: st.integers(-3, 20),
    "version": lambda: st.integers(-(2**63), 2**63 - 1),
    "recorded_at": lambda: st.datetimes(datetime(2025, 11, 1), datetime(2026, 1, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    "state": lambda: st.binary(max_size=20),
    "hash": lambda: st.binary(max_size=40),
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), position=st.integers(1, EVENTS), column=st.sampled_from(sorted(VALUES)))
def test_any_changed_value_in_any_column_is_detected(
    database: Database, data: st.DataObject, position: int, column: str
) -> None:
    value = data.draw(VALUES[column]())
    update = (
        f"UPDATE tickview.events SET {column} = %s WHERE log = %s AND position = %s AND {column} IS DISTINCT FROM %s"
    )
    with database.connection() as connection:
        connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS original AS SELECT * FROM tickview.events")
        connection.commit()
        changed = connection.execute(update.encode(), [value, LOG, position, value]).rowcount
        connection.commit()
        try:
            assume(changed)
            finding = next(log.finding for log in verify(database).logs if log.log == LOG)
            assert finding is not None
            assert finding.position == (min(position, value) if column == "position" else position)
        finally:
            connection.execute("TRUNCATE tickview.events")
            connection.execute("INSERT INTO tickview.events SELECT * FROM original")
