"""Forgetting of users on real servers: nothing readable remains, and nothing brings a destroyed key back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier
from redis import Redis

from domain.codec import encode, topic_of
from domain.user_events import UserForgotten, WatchlistCreated
from domain.workspace import Stamp
from infra.archive.archiver import Archiver
from infra.archive.event_history import EventHistory
from infra.archive.verification.verify import verify
from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from infra.projecting.projector import Projector
from infra.read_models.erasure import erase_row
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.redis.connections import connect
from infra.user_keys.archived_keys import archive_keys
from infra.user_keys.encryption import UserKey
from infra.user_keys.key_store import UserKeys
from infra.workspaces.forgetting import Forgetting, forget_user
from infra.workspaces.repository import UnreadableEventError, WorkspaceRepository
from projections.ports import Segment
from projections.workspaces import Workspaces
from readapi.ports.archive import EventFilter
from tests import servers
from tests.archiving import acquire_archiver_lease, archive_to_end, archived_log
from tests.integration.recovery_support import aof_size, restart_truncated
from tests.integration.test_workspaces import AT, SEGMENT, SNAPSHOTS, create_watchlist, fold
from tests.read_model import load_segment

OPERATOR = Stamp("operator root", 2.0)
MARK = "Retirement 4711"
"""The name of a watchlist that nothing may contain after it was forgotten."""


def forget(log: EventLog, database: Database | None = None, user: str = "alice") -> Forgetting:
    return forget_user(log.client, log, database, user, OPERATOR)


def dump_redis(client: Redis) -> bytes:
    """Return all keys and values of a server, in the readable form of RESTORE's counterpart for each type."""
    parts: list[Any] = []
    for key in client.scan_iter():
        read = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"list": lambda key: client.lrange(key, 0, -1),
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1),
            b"stream": client.xrange,
        }[client.type(key)]
        parts += [key, read(key)]
    return repr(parts).encode()


def dump_database(database: Database) -> bytes:
    """Return all rows of all tables of TickView."""
    with database.connection() as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'tickview'").fetchall()
        statements = [SQL("SELECT * FROM {}").format(Identifier("tickview", table)) for (table,) in tables]
        return repr([connection.execute(statement).fetchall() for statement in statements]).encode()


def archived_key(database: Database, user: str = "alice") -> tuple[int, bytes | None]:
    with database.connection() as connection:
        [row] = connection.execute("SELECT generation, secret FROM tickview.user_keys WHERE user_id = %s", [user])
    return row


def watchlist_names(log: EventLog, user: str = "alice") -> list[str]:
    return [watchlist.name for watchlist in WorkspaceRepository(log, "http").load(user).watchlists.values()]


def folded_names(client: Redis, user: str = "alice") -> list[str]:
    row = load_segment(client, Workspaces(), "users", SEGMENT.build).rows.get(user, {"watchlists": {}})
    return [watchlist["name"] for watchlist in row["watchlists"].values()]


@pytest.fixture
def log(redis: Redis, database: Database) -> EventLog:
    return archived_log(redis, database, "users")


@pytest.fixture
def workspaces(log: EventLog) -> WorkspaceRepository:
    return WorkspaceRepository(log, "http")


def test_nothing_readable_remains_of_a_forgotten_user_and_the_chain_is_valid(
    redis: Redis, database: Database, log: EventLog, workspaces: WorkspaceRepository
) -> None:
    workspaces.execute("alice", create_watchlist("a", MARK, "AAPL"))
    workspaces.execute("alice", lambda workspace: workspace.change_watchlist(AT, "a", f"{MARK}!", ["MSFT"]))
    workspaces.execute("bob", create_watchlist("b", "Banks"))
    fold(redis, log)
    archive_to_end(database, log)
    assert (watchlist_names(log), folded_names(redis)) == ([f"{MARK}!"], [f"{MARK}!"])
    assert MARK.encode() in dump_redis(redis)
    assert MARK.encode() not in dump_database(database)
    key = UserKeys(log).read(["alice"])["alice"]
    assert archived_key(database) == key

    outcome = forget(log, database)
    assert outcome == Forgetting("alice", 5, 1, encrypted_events=3, plain_events=0, is_folded=False)
    fold(redis, log)
    archive_to_end(database, log)
    for dump in (dump_redis(redis), dump_database(database)):
        assert MARK.encode() not in dump
        assert repr(key.secret)[2:-1].encode() not in dump
        assert b"MSFT" not in dump
    assert archived_key(database) == (1, None)
    assert verify(database).ok
    assert (watchlist_names(log), folded_names(redis), workspaces.deleted_lists("alice")) == ([], [], {})
    assert (watchlist_names(log, "bob"), folded_names(redis, "bob")) == (["Banks"], ["Banks"])


def test_history_says_what_is_forgotten(database: Database, log: EventLog, workspaces: WorkspaceRepository) -> None:
    history = EventHistory(database, {"users": log})

    def events() -> list[tuple[str, str | None, bool]]:
        page = history.events(EventFilter(stream="user-alice"), {}, 10)
        return [
            (event.entry.topic.partition(":")[2], event.source, MARK.encode() in event.entry.state)
            for event in page.events
        ]

    workspaces.execute("alice", create_watchlist("a", MARK))
    archive_to_end(database, log)
    workspaces.execute("alice", lambda workspace: workspace.delete_watchlist(AT, "a"))
    readable = [("WatchlistCreated", "alice", True), ("WatchlistDeleted", "alice", False)]
    assert events() == readable
    forget(log, database)
    assert events() == [
        ("WatchlistCreated", None, False),
        ("WatchlistDeleted", None, False),
        ("UserForgotten", "operator root", False),
    ]
    page = history.events(EventFilter(stream="user-alice"), {}, 10)
    assert [event.is_forgotten for event in page.events] == [True, True, False]


def test_a_user_who_returns_gets_a_key_of_the_next_generation(
    redis: Redis, database: Database, log: EventLog, workspaces: WorkspaceRepository
) -> None:
    workspaces.execute("alice", create_watchlist("a", MARK))
    first = UserKeys(log).read(["alice"])["alice"]
    forget(log, database)
    assert workspaces.execute("alice", create_watchlist("a", "Fresh start")).positions == {"users": 3}
    fold(redis, log)
    archive_to_end(database, log)
    second = UserKeys(log).read(["alice"])["alice"]
    assert (first.generation, second.generation) == (1, 2)
    assert second.secret not in (b"", first.secret)
    assert archived_key(database) == second
    assert (watchlist_names(log), folded_names(redis)) == (["Fresh start"], ["Fresh start"])
    redis.delete(SNAPSHOTS)
    assert watchlist_names(log) == ["Fresh start"]
    assert forget(log, database).generation == 2
    assert watchlist_names(log) == []


def test_a_user_is_forgotten_again_without_another_event(
    redis: Redis, database: Database, log: EventLog, workspaces: WorkspaceRepository
) -> None:
    workspaces.execute("alice", create_watchlist("a", MARK))
    outcome = forget(log, database)
    archive_keys_again = UserKey(1, bytes(32))
    redis.hset(UserKeys(log).key, "alice", b"1 " + archive_keys_again.secret)
    assert forget(log, database) == outcome
    assert (log.head(), UserKeys(log).read(["alice"])) == (2, {"alice": UserKey(1, b"")})


def test_a_user_without_events_is_forgotten_without_a_trace(database: Database, log: EventLog) -> None:
    assert forget(log, database, "nobody") == Forgetting("nobody", None, 1, 0, 0, is_folded=True)
    assert (log.head(), UserKeys(log).read(["nobody"])) == (0, {})


def test_plain_events_of_earlier_versions_are_read_and_counted(redis: Redis, log: EventLog) -> None:
    event = WatchlistCreated(event_id="", occurred_at=1.0, source="alice", user="alice", list_id="a", name="Old")
    log.append([NewEvent(event.stream, topic_of(WatchlistCreated), encode(event))])
    WorkspaceRepository(log, "http").execute("alice", create_watchlist("b", "New"))
    fold(redis, log)
    assert (watchlist_names(log), folded_names(redis)) == (["Old", "New"], ["Old", "New"])
    outcome = forget(log)
    assert (outcome.encrypted_events, outcome.plain_events) == (1, 1)
    fold(redis, log)
    assert (watchlist_names(log), folded_names(redis)) == ([], [])


def test_a_replay_after_forgetting_gives_no_lists(redis: Redis, log: EventLog, workspaces: WorkspaceRepository) -> None:
    for number in range(3):
        workspaces.execute("alice", create_watchlist(f"{number}", f"{MARK} {number}"))
        workspaces.execute("bob", create_watchlist(f"{number}", f"Banks {number}"))
    forget(log)
    workspaces.execute("alice", create_watchlist("9", "Fresh start"))
    fold(redis, log)
    segment = load_segment(redis, Workspaces(), "users", SEGMENT.build)
    assert set(segment.rows) == {"alice", "bob"}
    assert folded_names(redis) == ["Fresh start"]
    assert not redis.exists(SegmentKeys(SEGMENT).parked)


def test_a_parked_key_keeps_no_readable_event(redis: Redis, log: EventLog, workspaces: WorkspaceRepository) -> None:
    names = SegmentKeys(SEGMENT)
    workspaces.execute("alice", create_watchlist("a", MARK))
    log.append([NewEvent("user-alice", topic_of(WatchlistCreated), f'{{"name": "{MARK}"}}'.encode(), "unreadable")])
    fold(redis, log)
    assert redis.hexists(names.parked, "@user-alice")
    with pytest.raises(UnreadableEventError):
        workspaces.load("alice")
    log.append([NewEvent("user-alice", topic_of(WatchlistCreated), b"{}", "behind")])
    fold(redis, log)
    assert redis.llen(names.parked_events("@user-alice")) == 2

    assert forget(log).plain_events == 2
    fold(redis, log)
    assert not redis.exists(names.parked, names.parked_events("@user-alice"), names.retry)
    assert folded_names(redis) == []


def test_erasure_keeps_later_rows_and_later_parked_events(every_redis: Redis) -> None:
    every_redis.flushall()
    redis, log, names = every_redis, EventLog(every_redis, "users"), SegmentKeys(SEGMENT)
    unreadable = [NewEvent("user-alice", topic_of(WatchlistCreated), b"{}", f"{number}") for number in range(3)]
    log.append(unreadable)
    WorkspaceRepository(log, "http").execute("bob", create_watchlist("b", "Banks"))
    fold(redis, log)
    for user, position in (("alice", 2), ("bob", 3)):
        erase_row(redis, "workspaces", "users", user, f"user-{user}", position)
    assert redis.llen(names.parked_events("@user-alice")) == 1
    assert redis.smembers(names.retry) == {b"@user-alice"}
    assert b"were erased" in (redis.hget(names.parked, "@user-alice") or b"")
    assert folded_names(redis, "bob") == ["Banks"]
    assert erase_row(redis, "workspaces", "users", "bob", "user-bob", 4) == 1
    assert folded_names(redis, "bob") == []


def test_builds_that_no_worker_folds_are_cleared(redis: Redis, log: EventLog, workspaces: WorkspaceRepository) -> None:
    workspaces.execute("alice", create_watchlist("a", MARK))
    fold(redis, log)
    change_versions(redis, "workspaces", lambda versions: versions.replayed(Workspaces.version, held=False, throttle=0))
    building = change_versions(redis, "workspaces", lambda versions: versions).building
    assert building is not None
    store = RedisStore(redis)
    [lease] = store.lease([Segment("workspaces", building, "users")], "worker", 0.001)
    assert lease is not None
    Projector(Workspaces(), log, store, lease).step(1, 0)
    change_versions(redis, "workspaces", lambda versions: versions.switched(building))
    change_versions(redis, "workspaces", lambda versions: versions.rolled_back())
    assert dump_redis(redis).count(MARK.encode()) == 2
    redis.hset(SegmentKeys(SEGMENT).state, "leased_until", 0)
    forget(log)
    assert MARK.encode() not in dump_redis(redis)


def test_a_command_between_event_and_destruction_uses_the_next_key(
    redis: Redis, log: EventLog, workspaces: WorkspaceRepository
) -> None:
    workspaces.execute("alice", create_watchlist("a", MARK))
    event = UserForgotten(event_id="", occurred_at=2.0, source="operator", user="alice", generation=1)
    log.append([NewEvent(event.stream, topic_of(UserForgotten), encode(event))])
    workspaces.execute("alice", create_watchlist("b", "Fresh start"))
    UserKeys(log).merge({"alice": UserKey(1, b"")})
    redis.delete(SNAPSHOTS)
    assert watchlist_names(log) == ["Fresh start"]


def test_the_archiver_completes_an_interrupted_forgetting(
    database: Database, log: EventLog, workspaces: WorkspaceRepository
) -> None:
    workspaces.execute("alice", create_watchlist("a", MARK))
    archive_to_end(database, log)
    event = UserForgotten(event_id="", occurred_at=2.0, source="operator", user="alice", generation=1)
    log.append([NewEvent(event.stream, topic_of(UserForgotten), encode(event))])
    archive_to_end(database, log)
    assert UserKeys(log).read(["alice"]) == {"alice": UserKey(1, b"")}
    assert archived_key(database) == (1, None)


def test_a_late_archiver_does_not_bring_a_destroyed_key_back(
    database: Database, log: EventLog, workspaces: WorkspaceRepository
) -> None:
    workspaces.execute("alice", create_watchlist("a", MARK))
    log.open()
    archiver = Archiver(database, log, acquire_archiver_lease(database, "users"), 10)
    late = UserKeys(log).read(["alice"])
    forget(log, database)
    with database.connection() as connection:
        archive_keys(connection, late)
    assert archived_key(database) == (1, None)
    while archiver.step(0):
        pass
    assert archived_key(database) == (1, None)


def test_a_postgresql_from_before_the_forgetting_loses_the_key_again(
    database: Database, log: EventLog, workspaces: WorkspaceRepository
) -> None:
    workspaces.execute("alice", create_watchlist("a", MARK))
    archive_to_end(database, log)
    key = UserKeys(log).read(["alice"])["alice"]
    forget(log, database)
    with database.connection() as connection:
        connection.execute("UPDATE tickview.user_keys SET secret = %s", [key.secret])
    archive_to_end(database, log)
    assert archived_key(database) == (1, None)
    assert verify(database).ok


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[tuple[Any, Redis]]:
    with servers.valkey(data=tmp_path / "valkey") as server, connect(server.connection_url) as client:
        yield server, client


def test_a_redis_that_lost_the_forgetting_gets_it_back_and_a_new_redis_gets_the_keys_back(
    durable: tuple[Any, Redis], database: Database
) -> None:
    server, client = durable
    log = archived_log(client, database, "users")
    workspaces = WorkspaceRepository(log, "http")
    workspaces.execute("alice", create_watchlist("a", MARK))
    workspaces.execute("bob", create_watchlist("b", "Banks"))
    size = aof_size(server)
    archive_to_end(database, log)
    forget(log, database)
    archive_to_end(database, archived_log(client, database, "users"))
    restart_truncated(server, size)  # As a backup from before the forgetting.
    assert UserKeys(log).read(["alice"])["alice"].secret
    workspaces.execute("bob", create_watchlist("c", "Energy"))
    assert UserKeys(log).read(["alice"]) == {"alice": UserKey(1, b"")}
    assert (watchlist_names(log), watchlist_names(log, "bob")) == ([], ["Banks", "Energy"])
    archive_to_end(database, log)

    client.flushall()
    workspaces.execute("bob", create_watchlist("d", "Gold"))
    assert (watchlist_names(log), watchlist_names(log, "bob")) == ([], ["Banks", "Energy", "Gold"])
    fold(client, log)
    assert (folded_names(client), folded_names(client, "bob")) == ([], ["Banks", "Energy", "Gold"])


def test_an_old_backup_of_the_key_table_does_not_bring_a_destroyed_key_back(
    durable: tuple[Any, Redis], database: Database
) -> None:
    _, client = durable
    log = archived_log(client, database, "users")
    WorkspaceRepository(log, "http").execute("alice", create_watchlist("a", MARK))
    key = UserKeys(log).read(["alice"])["alice"]
    forget(log, database)
    log.append([NewEvent(f"user-{n}", topic_of(UserForgotten), state) for n, state in enumerate((b"\xff{", b"[]"))])
    archive_to_end(database, log)
    with database.connection() as connection:
        connection.execute("UPDATE tickview.user_keys SET secret = %s", [key.secret])
    client.flushall()
    assert watchlist_names(log) == []
    log.open()
    assert UserKeys(log).read(["alice"]) == {"alice": UserKey(1, b"")}
    assert archived_key(database) == (1, None)


merges = st.lists(
    st.builds(UserKey, st.integers(1, 3), st.sampled_from([b"", b"a" * 32])), min_size=1, max_size=5
).flatmap(lambda keys: st.tuples(st.just(keys), st.permutations(keys)))


@settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))
@given(merges)
def test_merges_commute_and_agree_in_redis_and_postgresql(
    every_redis: Redis, database: Database, merges: tuple[list[UserKey], list[UserKey]]
) -> None:
    keys = UserKeys(EventLog(every_redis, "users"))
    outcomes = []
    for order in merges:
        every_redis.delete(keys.key)
        with database.connection() as connection:
            connection.execute("DELETE FROM tickview.user_keys")
        for key in order:
            keys.merge({"alice": key})
            with database.connection() as connection:
                archive_keys(connection, {"alice": key})
        generation, secret = archived_key(database)
        outcomes += [keys.read(["alice"])["alice"], UserKey(generation, secret or b"")]
    highest = max(key.generation for key in merges[0])
    destroyed = any(key == UserKey(highest, b"") for key in merges[0])
    assert outcomes == [UserKey(highest, b"" if destroyed else b"a" * 32)] * 4
