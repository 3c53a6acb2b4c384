"""Commands to workspaces on a real log: concurrent commands, snapshots, and a log whose beginning is archived."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from structlog.testing import capture_logs

from domain.alerts import Alert
from domain.list_rules import NameTakenError, OutdatedError
from domain.lists import PresetDraft
from domain.workspace import Stamp, Workspace
from infra.archive.retention import Retention, trim_log
from infra.log.errors import HistoryGapError
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from infra.projecting.projector import Projector
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.redis.connections import connect
from infra.user_keys.encryption import UserKey
from infra.user_keys.key_store import UserKeys
from infra.workspaces.repository import ConflictError, WorkspaceRepository
from infra.workspaces.snapshots import Snapshots
from projections.ports import Segment
from projections.versions import Build
from projections.workspaces import Workspaces
from tests import servers
from tests.archiving import archive_to_end, archived_log
from tests.integration.recovery_support import aof_size, restart_truncated
from tests.oracles.workspaces import empty_workspace
from tests.read_model import load_segment

AT = Stamp("alice", 1.0)
SEGMENT = Segment("workspaces", Build(Workspaces.version, 1), "users")
SNAPSHOTS = "tickview:{users}:workspaces:3"


def create_watchlist(list_id: str, name: str, *symbols: str) -> Callable[[Workspace], None]:
    """Return a command that creates a watchlist."""
    return lambda workspace: workspace.create_watchlist(AT, list_id, name, symbols)


def change_watchlist(list_id: str, name: str, version: int | None = None) -> Callable[[Workspace], None]:
    """Return a command that renames a watchlist and removes its symbols."""
    expected = None if version is None else {version}
    return lambda workspace: workspace.change_watchlist(AT, list_id, name, [], expected)


def fold(redis: Redis, log: EventLog) -> None:
    """Fold the log of the users into the read model ``workspaces``."""
    change_versions(redis, "workspaces", lambda versions: versions.deployed(Workspaces.version))
    store = RedisStore(redis)
    [lease] = store.lease([SEGMENT], "worker", 60)
    assert lease is not None
    while Projector(Workspaces(), log, store, lease).step(1, 0)[1]:
        pass
    store.release([lease])


class ConcurrentCommand:
    """A command during which another command of the user succeeds, in each attempt until ``concurrent`` is empty."""

    def __init__(
        self,
        workspaces: WorkspaceRepository,
        concurrent: list[Callable[[Workspace], None]],
        command: Callable[[Workspace], None],
    ) -> None:
        self._workspaces = workspaces
        self._concurrent = concurrent
        self._command = command

    def __call__(self, workspace: Workspace) -> None:
        if self._concurrent:
            self._workspaces.execute("alice", self._concurrent.pop(0))
        self._command(workspace)


@pytest.fixture
def log(redis: Redis) -> EventLog:
    return EventLog(redis, "users")


@pytest.fixture
def workspaces(log: EventLog) -> WorkspaceRepository:
    return WorkspaceRepository(log, "http")


@pytest.fixture
def other_workspaces(log: EventLog) -> WorkspaceRepository:
    return WorkspaceRepository(log, "http")


def test_a_command_succeeds_despite_a_concurrent_change_of_another_list(
    workspaces: WorkspaceRepository, other_workspaces: WorkspaceRepository
) -> None:
    workspaces.execute("alice", create_watchlist("a", "Tech"))
    done = workspaces.execute(
        "alice",
        ConcurrentCommand(other_workspaces, [create_watchlist("b", "Banks")], change_watchlist("a", "Technology", 1)),
    )
    assert done.positions == {"users": 3}
    assert [watchlist.name for watchlist in other_workspaces.load("alice").watchlists.values()] == [
        "Technology",
        "Banks",
    ]


def test_a_command_is_refused_after_a_concurrent_change_that_contradicts_the_command(
    workspaces: WorkspaceRepository, other_workspaces: WorkspaceRepository
) -> None:
    workspaces.execute("alice", create_watchlist("a", "Tech"))
    with pytest.raises(OutdatedError, match="version 2"):
        workspaces.execute(
            "alice",
            ConcurrentCommand(
                other_workspaces, [change_watchlist("a", "Banks")], change_watchlist("a", "Technology", 1)
            ),
        )
    with pytest.raises(NameTakenError):
        workspaces.execute(
            "alice",
            ConcurrentCommand(other_workspaces, [create_watchlist("b", "Energy")], create_watchlist("c", "energy")),
        )
    assert [watchlist.name for watchlist in workspaces.load("alice").watchlists.values()] == ["Banks", "Energy"]


def test_a_command_is_attempted_twice_at_most(
    workspaces: WorkspaceRepository, other_workspaces: WorkspaceRepository, log: EventLog
) -> None:
    concurrent = [create_watchlist("a", "One"), create_watchlist("b", "Two"), create_watchlist("c", "Three")]
    with pytest.raises(ConflictError):
        workspaces.execute("alice", ConcurrentCommand(other_workspaces, concurrent, create_watchlist("d", "Four")))
    assert len(concurrent) == 1
    assert (list(workspaces.load("alice").watchlists), log.head()) == (["a", "b"], 2)


def test_commands_of_different_users_do_not_conflict(workspaces: WorkspaceRepository, log: EventLog) -> None:
    def command(workspace: Workspace) -> None:
        WorkspaceRepository(log, "http").execute("bob", create_watchlist("a", "Tech"))
        create_watchlist("a", "Tech")(workspace)

    assert workspaces.execute("alice", command).positions == {"users": 2}


def test_a_command_without_effect_is_not_recorded(workspaces: WorkspaceRepository, log: EventLog) -> None:
    workspaces.execute("alice", create_watchlist("a", "Tech"))
    workspaces.execute("bob", create_watchlist("a", "Tech"))
    assert workspaces.execute("alice", change_watchlist("a", "Tech")).positions == {"users": 2}
    assert log.head() == 2


class Change(NamedTuple):
    """A random change of a watchlist."""

    kind: str
    list_id: str
    name: str


def apply_if_possible(workspace: Workspace, change: Change, used_ids: set[str], number: int) -> None:
    """Apply the change, unless the rules of the workspace forbid it."""
    kind, list_id, name = change
    names = {watchlist.name for watchlist in workspace.watchlists.values()}
    watchlist = workspace.watchlists.get(list_id)
    if kind == "create" and list_id not in used_ids and name not in names:
        workspace.create_watchlist(AT, list_id, name, [])
    elif kind == "rename" and watchlist and name not in names:
        workspace.change_watchlist(AT, list_id, name, [])
    elif kind == "fill" and watchlist:
        workspace.change_watchlist(AT, list_id, watchlist.name, [f"S{number}"])
    elif kind == "delete" and watchlist:
        workspace.delete_watchlist(AT, list_id)


changes = st.lists(
    st.builds(
        Change, st.sampled_from(("create", "rename", "fill", "delete")), st.sampled_from("abc"), st.sampled_from("ABC")
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(changes, st.sets(st.integers(0, 11)))
def test_a_workspace_is_the_same_with_and_without_a_snapshot(
    redis: Redis, changes: list[Change], without_snapshot: set[int]
) -> None:
    redis.flushall()
    log = EventLog(redis, "users")
    workspaces = WorkspaceRepository(log, "http")
    created: set[str] = set()
    for number, change in enumerate(changes):
        if number in without_snapshot:
            redis.delete(SNAPSHOTS)
        command = partial(apply_if_possible, change=change, used_ids=created, number=number)
        created = created | workspaces.execute("alice", command).workspace.watchlists.keys()
    from_snapshot = workspaces.load("alice")
    redis.delete(SNAPSHOTS)
    from_events = workspaces.load("alice")
    assert (from_snapshot.watchlists, from_snapshot.version) == (from_events.watchlists, from_events.version)
    assert workspaces.deleted_lists("alice").keys() == created - from_events.watchlists.keys()
    fold(redis, log)
    rows = load_segment(redis, Workspaces(), "users", SEGMENT.build).rows
    watchlists = {key: orjson.loads(orjson.dumps(watchlist)) for key, watchlist in from_events.watchlists.items()}
    expected = {**empty_workspace("alice"), "watchlists": watchlists}
    assert rows == ({"alice": expected} if log.head() else {})


def test_a_first_command_succeeds_despite_a_concurrent_first_command_that_creates_the_key(
    workspaces: WorkspaceRepository, other_workspaces: WorkspaceRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [create_watchlist("b", "Banks")]
    load = Snapshots.load

    def load_and_let_others_follow(snapshots: Snapshots, user: str) -> tuple[Workspace, UserKey | None, str]:
        loaded = load(snapshots, user)
        if others:
            other_workspaces.execute(user, others.pop())
        return loaded

    monkeypatch.setattr(Snapshots, "load", load_and_let_others_follow)
    done = workspaces.execute("alice", create_watchlist("a", "Tech"))
    assert [watchlist.name for watchlist in done.workspace.watchlists.values()] == ["Banks", "Tech"]


def test_alerts_are_the_same_with_and_without_a_snapshot(redis: Redis, workspaces: WorkspaceRepository) -> None:
    draft = PresetDraft("Strong", {"confidence_min": 0.8}, default=False)
    workspaces.execute("alice", lambda workspace: workspace.create_preset(AT, "p", draft))
    workspaces.execute("alice", lambda workspace: workspace.set_alert(AT, "p", "https://example.com/hook", "5a"))
    from_snapshot = workspaces.load("alice").alerts
    redis.delete(SNAPSHOTS)
    assert workspaces.load("alice").alerts == from_snapshot == {"p": Alert("https://example.com/hook", "5a", 1.0, 1.0)}


def test_a_snapshot_of_another_epoch_of_the_log_is_ignored(
    workspaces: WorkspaceRepository, redis: Redis, log: EventLog
) -> None:
    workspaces.execute("alice", create_watchlist("a", "Tech"))
    workspaces.execute("alice", create_watchlist("b", "Banks"))
    snapshots, key = Snapshots(log, UserKeys(log)), UserKeys(log).read(["alice"])["alice"]
    workspace, _, incarnation = snapshots.load("alice")
    workspace.change_watchlist(AT, "b", "Tanks", None)
    workspace.version -= 1
    snapshots.store(workspace, key, incarnation)
    assert workspaces.load("alice").watchlists["b"].name == "Tanks"
    redis.hincrby(log.keys.meta, "epoch", 1)
    assert workspaces.load("alice").watchlists["b"].name == "Banks"


def test_a_command_succeeds_without_its_snapshot_and_the_failure_is_logged(redis: Redis, redis_url: str) -> None:
    redis.acl_setuser("reader", enabled=True, nopass=True, categories=["+@all"], channels=["*"])
    redis.execute_command("ACL", "SETUSER", "reader", "~tickview:{users}:[^w]*", f"%R~{SNAPSHOTS}")
    try:
        with connect(redis_url.replace("//", "//reader:any@")) as client, capture_logs() as logs:
            workspaces = WorkspaceRepository(EventLog(client, "users"), "http")
            for number in range(2):
                assert workspaces.execute("alice", create_watchlist(f"{number}", f"List {number}")).positions == {
                    "users": number + 1
                }
            assert list(workspaces.load("alice").watchlists) == ["0", "1"]
    finally:
        redis.acl_deluser("reader")
    assert [(line["event"], line["user"]) for line in logs] == [("snapshot not stored", "alice")] * 2
    assert not redis.exists(SNAPSHOTS)


def test_the_changes_stream_names_the_user_of_a_commit_without_the_workspace(
    workspaces: WorkspaceRepository, redis: Redis, log: EventLog
) -> None:
    workspaces.execute("alice", create_watchlist("a", "Tech", "AAPL"))
    fold(redis, log)
    [(identity, fields)] = redis.xrange(SegmentKeys(SEGMENT).changes)
    assert (identity.partition(b"-")[0], fields[b"rows"]) == (b"1", b'[["alice",null]]')


def test_trimming_keeps_events_that_are_not_folded_and_commands_need_no_archive(
    redis: Redis, database: Database
) -> None:
    log = archived_log(redis, database, "users")
    workspaces = WorkspaceRepository(log, "http")
    for number in range(20):
        workspaces.execute("alice", create_watchlist(f"{number}", f"List {number}"))
    workspaces.execute("alice", lambda workspace: workspace.delete_watchlist(AT, "3"))
    archive_to_end(database, log)
    keep_nothing = Retention(age=0, size=0)
    assert trim_log(log, redis, archived=21, retention=keep_nothing) == 0
    fold(redis, log)
    assert trim_log(log, redis, archived=21, retention=keep_nothing) == 20
    without_archive = WorkspaceRepository(EventLog(redis, "users"), "http")
    without_archive.execute("alice", change_watchlist("7", "Renamed"))
    assert without_archive.load("alice").watchlists["7"].name == "Renamed"
    assert workspaces.deleted_lists("alice")["3"].name == "List 3"
    redis.delete(SNAPSHOTS)
    assert len(workspaces.load("alice").watchlists) == 19
    with pytest.raises(HistoryGapError):
        without_archive.load("alice")


def test_lost_events_are_restored_before_a_command_decides(tmp_path: Path, database: Database) -> None:
    with servers.valkey(data=tmp_path / "valkey") as server, connect(server.connection_url) as redis:
        workspaces = WorkspaceRepository(archived_log(redis, database, "users"), "http")
        workspaces.execute("alice", create_watchlist("a", "First"))
        workspaces.execute("alice", create_watchlist("b", "Second"))
        size = aof_size(server)
        workspaces.execute("alice", create_watchlist("c", "Third"))
        workspaces.execute("alice", lambda workspace: workspace.delete_watchlist(AT, "a"))
        log = archived_log(redis, database, "users")
        archive_to_end(database, log)
        restart_truncated(server, size)

        assert log.head() == 2
        with pytest.raises(NameTakenError):
            workspaces.execute("alice", create_watchlist("d", "Third"))
        assert workspaces.execute("alice", create_watchlist("d", "Fourth")).positions == {"users": 5}
        assert list(workspaces.load("alice").watchlists) == ["b", "c", "d"]
        fold(redis, log)
        assert load_segment(redis, Workspaces(), "users", SEGMENT.build).rows["alice"]["watchlists"].keys() == {
            "b",
            "c",
            "d",
        }
