"""Verification on real servers: whatever is done to the archive in SQL is found, and named."""
# ruff: noqa: S608 SQL is made of parts here

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from redis import Redis

from domain.log import LogEntry
from infra.archive.archiver import Archiver
from infra.archive.ranges import ArchiveRange, parse_range_end
from infra.archive.verification.tamper_detection import TamperFinding
from infra.archive.verification.verify import WHOLE_ARCHIVE, last_verification, record_verification, verify
from infra.postgres.database import Database
from infra.processes.errors import StartupError
from tests.archiving import acquire_archiver_lease, archived_log

LOG = "market-0"
EVENTS = 12
MONTHS = [(2025, 11)] * 4 + [(2025, 12)] * 4 + [(2026, 1)] * 4


def moment(position: int) -> datetime:
    return datetime(*MONTHS[position - 1], 1 + position, tzinfo=UTC)


def entry(position: int) -> LogEntry:
    state = orjson.dumps({"source": f"producer-{position % 3}", "value": position})
    recorded_at = moment(position).timestamp()
    return LogEntry(position, "symbol-A", position, "t:One", f"id-{position}", recorded_at, state, "http")


def archive_months(client: Redis, database: Database, name: str = LOG) -> Archiver:
    """Twelve events in three months."""
    log = archived_log(client, database, name)
    log.open()
    archiver = Archiver(database, log, acquire_archiver_lease(database, name), 100)
    archiver.archive([entry(position) for position in range(1, 7)])
    archiver.archive([entry(position) for position in range(7, EVENTS + 1)])
    return archiver


@pytest.fixture
def database(every_database: Database, redis: Redis) -> Database:
    """The archive of one log, on each PostgreSQL there is."""
    archive_months(redis, every_database)
    return every_database


def run(database: Database, *statements: str) -> None:
    with database.connection() as connection:
        for statement in statements:
            connection.execute(statement.encode())


def misfit(database: Database, bounds: ArchiveRange = WHOLE_ARCHIVE) -> TamperFinding | None:
    verification = verify(database, LOG, bounds)
    assert verification.ok is (verification.logs[0].finding is None)
    return verification.logs[0].finding


DELETE_5 = "DELETE FROM tickview.events WHERE position = 5"
CLOSE_UP = "UPDATE tickview.events SET position = position - 1 WHERE position > 5"
MAKE_ROOM = "UPDATE tickview.events SET position = position + 1 WHERE position >= 5"


def put_in(position: int, like: int, event_id: str = "'another'", hash_: str = "hash", log: str = "log") -> str:
    """Insert a row at ``position`` that is like the one at another."""
    return f"""
        INSERT INTO tickview.events
        SELECT {log}, {position}, recorded_at, stream, version, topic, {event_id}, source, correlation_id,
            origin, state, {hash_}
        FROM tickview.events WHERE position = {like}
    """


def exchange(first: int, second: int, *columns: str) -> str:
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
    "source to null": ["UPDATE tickview.events SET source = NULL WHERE position = 5"],
    "correlation": ["UPDATE tickview.events SET correlation_id = '' WHERE position = 5"],
    "origin": ["UPDATE tickview.events SET origin = 'retry' WHERE position = 5"],
    "stream": ["UPDATE tickview.events SET stream = 'symbol-B' WHERE position = 5"],
    "version": ["UPDATE tickview.events SET version = version + 1 WHERE position = 5"],
    "topic": ["UPDATE tickview.events SET topic = 't:Two' WHERE position = 5"],
    "event id": ["UPDATE tickview.events SET event_id = 'id-4' WHERE position = 5"],
    "a microsecond": ["UPDATE tickview.events SET recorded_at = recorded_at + '1 microsecond' WHERE position = 5"],
    "the month": ["UPDATE tickview.events SET recorded_at = '2026-01-02Z' WHERE position = 5"],
    "its hash": ["UPDATE tickview.events SET hash = sha256(hash) WHERE position = 5"],
    "no hash": ["UPDATE tickview.events SET hash = '' WHERE position = 5"],
    "a long hash": ["UPDATE tickview.events SET hash = hash || hash WHERE position = 5"],
    "this and later ones": ["UPDATE tickview.events SET state = '{}' WHERE position IN (5, 6, 9)"],
    "everything from here on": ["UPDATE tickview.events SET state = '{}' WHERE position >= 5"],
}
MISSING: dict[str, list[str]] = {
    "one": [DELETE_5],
    "a run": ["DELETE FROM tickview.events WHERE position BETWEEN 5 AND 8"],
    "one, renumbered": [DELETE_5, CLOSE_UP],
    "a run, renumbered": [
        "DELETE FROM tickview.events WHERE position BETWEEN 5 AND 8",
        "UPDATE tickview.events SET position = position - 4 WHERE position > 8",
    ],
    "all but the last, renumbered": [
        "DELETE FROM tickview.events WHERE position BETWEEN 5 AND 11",
        "UPDATE tickview.events SET position = 5 WHERE position = 12",
    ],
    "to the end": ["DELETE FROM tickview.events WHERE position >= 5"],
    "another log's now": ["UPDATE tickview.events SET log = 'market-1' WHERE position = 5"],
    "moved behind the end": ["UPDATE tickview.events SET position = 99 WHERE position = 5"],
}
ADDED: dict[str, list[str]] = {
    "a copy": [put_in(5, like=5, event_id="event_id")],
    "another of the position": [put_in(5, like=4)],
    "another in a later month": [put_in(5, like=11)],
    "renumbered": [MAKE_ROOM, put_in(5, like=4)],
    "a copy of a later one, renumbered": [MAKE_ROOM, put_in(5, like=10, event_id="event_id")],
    "two, renumbered": [MAKE_ROOM, MAKE_ROOM, put_in(5, like=4), put_in(6, like=4)],
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
def test_what_is_done_to_event_5_is_named(database: Database, kind: str, statements: list[str]) -> None:
    assert misfit(database) is None
    run(database, *statements)
    found = misfit(database)
    assert found is not None
    assert (found.position, found.kind) == (5, kind)
    assert misfit(database, ArchiveRange(end=4)) is None
    assert misfit(database, ArchiveRange(start=2)) == found


@pytest.mark.parametrize("second", [6, 7, 12], ids=["adjacent", "near", "far"])
@pytest.mark.parametrize("names", EXCHANGED.values(), ids=EXCHANGED.keys())
def test_two_that_changed_places_are_both_named(database: Database, names: tuple[str, ...], second: int) -> None:
    run(database, exchange(5, second, *names))
    found = misfit(database)
    assert found is not None
    assert (found.position, found.kind) == (5, "swapped")
    assert found.detail.startswith(f"with {second}:")
    assert misfit(database, ArchiveRange(end=5)) == found


@pytest.mark.parametrize(
    ("statement", "position", "kind"),
    [
        ("DELETE FROM tickview.events WHERE position = 12", 12, "missing"),
        ("DELETE FROM tickview.events WHERE position = 1", 1, "missing"),
        ("DELETE FROM tickview.events WHERE position <= 4", 1, "missing"),
        ("DELETE FROM tickview.events WHERE position <= 6", 1, "missing"),
        ("DELETE FROM tickview.events", 1, "missing"),
        (put_in(13, like=12), 13, "added"),
        (put_in(15, like=12, hash_="sha256(hash)"), 15, "added"),
        (put_in(0, like=1), 0, "added"),
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
def test_ends_and_what_is_kept_beside_the_events(database: Database, statement: str, position: int, kind: str) -> None:
    run(database, statement)
    found = misfit(database)
    assert found is not None
    assert (found.position, found.kind) == (position, kind)


def test_a_log_that_nobody_archived_is_added(database: Database) -> None:
    run(database, put_in(1, like=1, log="'market-9'"))
    known, unknown = verify(database).logs
    assert (known.log, known.finding, unknown.log) == (LOG, None, "market-9")
    assert unknown.finding is not None


def test_an_untouched_archive_fits_whole_and_in_part(database: Database) -> None:
    [whole] = verify(database, LOG).logs
    assert (whole.first, whole.last, whole.events, whole.finding) == (1, 12, 12, None)
    with database.connection() as connection:
        [[head]] = connection.execute("SELECT hash FROM tickview.logs")
    assert whole.hash == head.hex()
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


def test_a_log_that_is_not_there_is_named(database: Database) -> None:
    with pytest.raises(StartupError, match=r"no log users\. It has: market-0"):
        verify(database, "users")


def detach(database: Database, *months: str) -> None:
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for month in months:
            connection.execute(
                f"ALTER TABLE tickview.events DETACH PARTITION tickview.events_{month} CONCURRENTLY".encode()
            )


def test_with_the_oldest_months_detached_the_rest_verifies(database: Database) -> None:
    detach(database, "2025_11")
    [rest] = verify(database).logs
    assert (rest.first, rest.last, rest.finding) == (5, 12, None)
    [part] = verify(database, archive_range=ArchiveRange(start=2, end=6)).logs
    assert (part.first, part.last, part.finding) == (5, 6, None)
    [part] = verify(database, archive_range=ArchiveRange(start=5)).logs
    assert (part.first, part.last, part.finding) == (5, 12, None)
    run(database, "DELETE FROM tickview.events WHERE position = 5")
    found = misfit(database)
    assert found is not None
    assert (found.position, found.kind) == (5, "missing")


def test_with_every_month_detached_nothing_is_left_to_verify(database: Database) -> None:
    detach(database, "2025_11", "2025_12", "2026_01")
    [nothing] = verify(database).logs
    assert (nothing.events, nothing.finding) == (0, None)


def test_where_a_month_in_the_middle_is_detached_events_are_missing(database: Database) -> None:
    detach(database, "2025_12")
    found = misfit(database)
    assert found is not None
    assert (found.position, found.kind) == (5, "missing")


def test_archiving_goes_on_while_it_verifies(redis: Redis, database: Database) -> None:
    """Events that are archived after the verification has begun are not among those it verifies."""
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


def test_the_last_verification_is_told(database: Database) -> None:
    assert last_verification(database) is None
    verification = verify(database)
    record_verification(database, verification)
    run(database, *CHANGED["state"])
    told = last_verification(database)
    assert told is not None
    assert told.pop("logs") == (shown := verification.document()).pop("logs")
    assert told == pytest.approx(shown, rel=1e-2)
    second = verify(database)
    record_verification(database, second)
    told = last_verification(database)
    assert told is not None
    assert (told["ok"], told["events"]) == (False, 4)
    assert told["logs"][0]["misfit"]["kind"] == "changed"
    assert told["started_at"] == pytest.approx(second.started_at, abs=1e-5)


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
def test_any_value_in_any_column_is_found(database: Database, data: st.DataObject, position: int, column: str) -> None:
    value = data.draw(VALUES[column]())
    update = (
        f"UPDATE tickview.events SET {column} = %s WHERE log = %s AND position = %s AND {column} IS DISTINCT FROM %s"
    )
    with database.connection() as connection:
        connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS kept AS SELECT * FROM tickview.events")
        connection.commit()
        changed = connection.execute(update.encode(), [value, LOG, position, value]).rowcount
        connection.commit()
        try:
            assume(changed)
            found = next(log.finding for log in verify(database).logs if log.log == LOG)
            assert found is not None
            assert found.position == (min(position, value) if column == "position" else position)
        finally:
            connection.execute("TRUNCATE tickview.events")
            connection.execute("INSERT INTO tickview.events SELECT * FROM kept")
