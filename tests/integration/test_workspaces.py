"""Commands to workspaces on a real log: what others do meanwhile, snapshots, and a log whose beginning is archived."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from structlog.testing import capture_logs

from domain.list_rules import NameTakenError
from domain.workspace import OutdatedError, Stamp, Workspace
from infra.archive.retention import Retention, trim_log
from infra.log.errors import HistoryGapError
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from infra.projecting.projector import Projector
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.redis.connections import connect
from infra.workspaces.repository import ConflictError, WorkspaceRepository
from projections.ports import Segment
from projections.workspaces import Workspaces
from tests import servers
from tests.archiving import archive_all, archived_log
from tests.integration.test_log_recovery import cut_off, file_of
from tests.read_model import FIRST, stored

AT = Stamp("alice", 1.0)
SEGMENT = Segment("workspaces", FIRST, "users")
SNAPSHOTS = "tickview:{users}:workspaces:1"


def begin(list_id: str, name: str, *symbols: str) -> Callable[[Workspace], None]:
    return lambda workspace: workspace.create_watchlist(AT, list_id, name, symbols)


def change(list_id: str, name: str, version: int | None = None) -> Callable[[Workspace], None]:
    expected = None if version is None else {version}
    return lambda workspace: workspace.change_watchlist(AT, list_id, name, [], expected)


def fold(redis: Redis, log: EventLog) -> None:
    change_versions(redis, "workspaces", lambda versions: versions.deployed(1))
    store = RedisStore(redis)
    [lease] = store.lease([SEGMENT], "worker", 60)
    assert lease is not None
    while Projector(Workspaces(), log, store, lease).step(1, 0)[1]:
        pass


class Interrupted:
    """A command that lets others go first, the first so many times that it is asked."""

    def __init__(
        self,
        others: WorkspaceRepository,
        meanwhile: list[Callable[[Workspace], None]],
        then: Callable[[Workspace], None],
    ) -> None:
        self._others = others
        self._meanwhile = meanwhile
        self._then = then

    def __call__(self, workspace: Workspace) -> None:
        if self._meanwhile:
            self._others.execute("alice", self._meanwhile.pop(0))
        self._then(workspace)


@pytest.fixture
def log(redis: Redis) -> EventLog:
    return EventLog(redis, "users")


@pytest.fixture
def ours(log: EventLog) -> WorkspaceRepository:
    return WorkspaceRepository(log, "http")


@pytest.fixture
def others(log: EventLog) -> WorkspaceRepository:
    return WorkspaceRepository(log, "http")


def test_a_command_succeeds_that_does_not_mind_what_others_did(
    ours: WorkspaceRepository, others: WorkspaceRepository
) -> None:
    ours.execute("alice", begin("a", "Tech"))
    done = ours.execute("alice", Interrupted(others, [begin("b", "Banks")], change("a", "Technology", 1)))
    assert done.positions == {"users": 3}
    assert [one.name for one in others.load("alice").watchlists.values()] == ["Technology", "Banks"]


def test_a_command_is_refused_that_does_mind(ours: WorkspaceRepository, others: WorkspaceRepository) -> None:
    ours.execute("alice", begin("a", "Tech"))
    with pytest.raises(OutdatedError, match="version 2"):
        ours.execute("alice", Interrupted(others, [change("a", "Banks")], change("a", "Technology", 1)))
    with pytest.raises(NameTakenError):
        ours.execute("alice", Interrupted(others, [begin("b", "Energy")], begin("c", "energy")))
    assert [one.name for one in ours.load("alice").watchlists.values()] == ["Banks", "Energy"]


def test_a_command_is_tried_twice_and_no_more(
    ours: WorkspaceRepository, others: WorkspaceRepository, log: EventLog
) -> None:
    meanwhile = [begin("a", "One"), begin("b", "Two"), begin("c", "Three")]
    with pytest.raises(ConflictError):
        ours.execute("alice", Interrupted(others, meanwhile, begin("d", "Four")))
    assert len(meanwhile) == 1
    assert (list(ours.load("alice").watchlists), log.head()) == (["a", "b"], 2)


def test_what_others_users_do_is_no_conflict(ours: WorkspaceRepository, log: EventLog) -> None:
    def command(workspace: Workspace) -> None:
        WorkspaceRepository(log, "http").execute("bob", begin("a", "Tech"))
        begin("a", "Tech")(workspace)

    assert ours.execute("alice", command).positions == {"users": 2}


def test_a_change_that_is_none_is_not_recorded(ours: WorkspaceRepository, log: EventLog) -> None:
    ours.execute("alice", begin("a", "Tech"))
    ours.execute("bob", begin("a", "Tech"))
    assert ours.execute("alice", change("a", "Tech")).positions == {"users": 2}
    assert log.head() == 2


commands = st.lists(
    st.tuples(st.sampled_from(("begin", "rename", "fill", "delete")), st.sampled_from("abc"), st.sampled_from("ABC")),
    max_size=12,
)


def some_change(workspace: Workspace, used: set[str], what: str, list_id: str, name: str, number: int) -> None:
    """What is asked, where it can be done."""
    names = {one.name for one in workspace.watchlists.values()}
    there = workspace.watchlists.get(list_id)
    if what == "begin" and list_id not in used and name not in names:
        workspace.create_watchlist(AT, list_id, name, [])
    elif what == "rename" and there and name not in names:
        workspace.change_watchlist(AT, list_id, name, [])
    elif what == "fill" and there:
        workspace.change_watchlist(AT, list_id, there.name, [f"S{number}"])
    elif what == "delete" and there:
        workspace.delete_watchlist(AT, list_id)


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(commands, st.sets(st.integers(0, 11)))
def test_whatever_snapshots_there_are_everybody_sees_the_same(
    redis: Redis, asked: list[tuple[str, str, str]], forgotten: set[int]
) -> None:
    redis.flushall()
    log = EventLog(redis, "users")
    ours = WorkspaceRepository(log, "http")
    begun: set[str] = set()
    for number, (what, list_id, name) in enumerate(asked):
        if number in forgotten:
            redis.delete(SNAPSHOTS)
        command = partial(some_change, used=begun, what=what, list_id=list_id, name=name, number=number)
        begun = begun | ours.execute("alice", command).workspace.watchlists.keys()
    by_snapshot = ours.load("alice")
    redis.delete(SNAPSHOTS)
    anew = ours.load("alice")
    assert (by_snapshot.watchlists, by_snapshot.version) == (anew.watchlists, anew.version)
    assert ours.deleted_lists("alice").keys() == begun - anew.watchlists.keys()
    fold(redis, log)
    rows = stored(redis, Workspaces(), "users").rows
    shown = {key: orjson.loads(orjson.dumps(one)) for key, one in anew.watchlists.items()}
    assert rows == (
        {"alice": {"user": "alice", "watchlists": shown, "presets": {}, "default_preset": None}} if log.head() else {}
    )


def test_a_snapshot_of_another_reign_is_not_believed(ours: WorkspaceRepository, redis: Redis, log: EventLog) -> None:
    ours.execute("alice", begin("a", "Tech"))
    ours.execute("alice", begin("b", "Banks"))
    snapshot = redis.hget(SNAPSHOTS, "alice")
    assert snapshot is not None
    redis.hset(SNAPSHOTS, "alice", snapshot.replace(b"Banks", b"Tanks"))
    assert ours.load("alice").watchlists["b"].name == "Tanks"
    redis.hincrby(log.keys.meta, "epoch", 1)
    assert ours.load("alice").watchlists["b"].name == "Banks"


def test_a_command_is_done_though_its_snapshot_cannot_be_kept_which_is_logged(redis: Redis, redis_url: str) -> None:
    redis.acl_setuser("reader", enabled=True, nopass=True, categories=["+@all"], channels=["*"])
    redis.execute_command("ACL", "SETUSER", "reader", "~tickview:{users}:[^w]*", f"%R~{SNAPSHOTS}")
    try:
        with connect(redis_url.replace("//", "//reader:any@")) as client, capture_logs() as logs:
            ours = WorkspaceRepository(EventLog(client, "users"), "http")
            for number in range(2):
                assert ours.execute("alice", begin(f"{number}", f"List {number}")).positions == {"users": number + 1}
            assert list(ours.load("alice").watchlists) == ["0", "1"]
    finally:
        redis.acl_deluser("reader")
    assert [(one["event"], one["user"]) for one in logs] == [("snapshot not stored", "alice")] * 2
    assert not redis.exists(SNAPSHOTS)


def test_changes_tell_whose_workspace_was_committed_and_not_what_it_is(
    ours: WorkspaceRepository, redis: Redis, log: EventLog
) -> None:
    ours.execute("alice", begin("a", "Tech", "AAPL"))
    fold(redis, log)
    [(identity, fields)] = redis.xrange(SegmentKeys(SEGMENT).changes)
    assert (identity, fields[b"rows"]) == (b"1-0", b'[["alice",null]]')


def test_the_log_keeps_what_the_read_model_has_not_folded_and_commands_need_no_archive(
    redis: Redis, database: Database
) -> None:
    log = archived_log(redis, database, "users")
    ours = WorkspaceRepository(log, "http")
    for number in range(20):
        ours.execute("alice", begin(f"{number}", f"List {number}"))
    ours.execute("alice", lambda workspace: workspace.delete_watchlist(AT, "3"))
    archive_all(database, log)
    nothing = Retention(age=0, size=0)
    assert trim_log(log, redis, archived=21, retention=nothing) == 0
    fold(redis, log)
    assert trim_log(log, redis, archived=21, retention=nothing) == 20
    alone = WorkspaceRepository(EventLog(redis, "users"), "http")
    alone.execute("alice", change("7", "Renamed"))
    assert alone.load("alice").watchlists["7"].name == "Renamed"
    assert ours.deleted_lists("alice")["3"].name == "List 3"
    redis.delete(SNAPSHOTS)
    assert len(ours.load("alice").watchlists) == 19
    with pytest.raises(HistoryGapError):
        alone.load("alice")


def test_what_a_log_had_lost_is_put_back_before_a_command_counts(tmp_path: Path, database: Database) -> None:
    with servers.valkey(data=tmp_path / "valkey") as server, connect(server.connection_url) as redis:
        ours = WorkspaceRepository(archived_log(redis, database, "users"), "http")
        ours.execute("alice", begin("a", "First"))
        ours.execute("alice", begin("b", "Second"))
        size = file_of(server).stat().st_size
        ours.execute("alice", begin("c", "Third"))
        ours.execute("alice", lambda workspace: workspace.delete_watchlist(AT, "a"))
        log = archived_log(redis, database, "users")
        archive_all(database, log)
        cut_off(server, size)

        assert log.head() == 2
        with pytest.raises(NameTakenError):
            ours.execute("alice", begin("d", "Third"))
        assert ours.execute("alice", begin("d", "Fourth")).positions == {"users": 5}
        assert list(ours.load("alice").watchlists) == ["b", "c", "d"]
        fold(redis, log)
        assert stored(redis, Workspaces(), "users").rows["alice"]["watchlists"].keys() == {"b", "c", "d"}
