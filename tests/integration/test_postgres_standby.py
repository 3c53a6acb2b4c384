"""Reads of the past from a streaming standby: lag, outage, servers that are no copy."""

import asyncio
from collections.abc import Iterator
from time import time
from typing import NamedTuple

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis import Redis

from infra.archive.archiver import Archiver
from infra.archive.head_keeper import HeadKeeper
from infra.archive.ranges import WHOLE_ARCHIVE
from infra.log.errors import ArchiveUnavailableError
from infra.log.event_log import EventLog
from infra.log.partitions import fix_partitions
from infra.operations import server_status
from infra.operations.verification import record_if_whole, verify_everything
from infra.postgres import standby as standby_module
from infra.postgres.database import Database
from infra.postgres.standby import Standby, StandbyNotReadyError
from infra.processes.errors import StartupError
from infra.serving.archive import ArchiveGateway, ArchiveHistory, ArchiveServers
from infra.serving.operations import archive_server_statuses
from infra.serving.row_history import PostgresHistory
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.queries import HistoryPage, Query
from readapi.ports.archive import EventFilter
from tests import servers
from tests.archiving import acquire_archiver_lease, archived_log
from tests.conftest import open_database
from tests.events import new_events
from tests.integration.archive_support import detections
from tests.postgres_pair import PostgresPair, postgres_pair
from tests.processes.roles import wait_until
from tests.row_history import fold_history
from tests.tcp_ports import free_port

LOG = "market-0"


@pytest.fixture(scope="module")
def pair() -> Iterator[PostgresPair]:
    with postgres_pair() as pair:
        servers.disable_fsync(pair.primary)
        yield pair


class Archive(NamedTuple):
    """An archived log with a folded history on the primary server and its standby."""

    log: EventLog
    primary: Database
    standby: Standby
    pair: PostgresPair

    @property
    def servers(self) -> ArchiveServers:
        return ArchiveServers(ArchiveGateway(self.primary), ArchiveGateway(self.standby, "standby"))

    def extend(self, symbol: str) -> None:
        """Append two events, archive and fold them, and keep the head in Redis."""
        self.log.append(new_events(detections(1, symbol)))
        archiver = Archiver(self.primary, self.log, acquire_archiver_lease(self.primary, LOG), 100)
        while archiver.step(0):
            pass
        HeadKeeper(self.primary, self.log).keep(archiver.head)
        fold_history(self.primary, LOG)


def has_schema(standby: Standby) -> bool:
    try:
        standby.check()
    except StandbyNotReadyError:
        return False
    return True


@pytest.fixture
def archive(pair: PostgresPair, redis: Redis) -> Iterator[Archive]:
    fix_partitions(redis, 1)
    with servers.new_database(pair.primary) as dsn, open_database(dsn) as primary:
        log = archived_log(redis, primary, LOG)
        log.open()
        standby = Standby(pair.on_standby(dsn), primary)
        archive = Archive(log, primary, standby, pair)
        archive.extend("AAPL")
        wait_until(lambda: has_schema(standby), "the standby has the schema")
        standby.catch_up()
        try:
            yield archive
        finally:
            pair.resume_replay()
            standby.close()


def hosts_of(dsn: str) -> list[str]:
    return str(conninfo_to_dict(dsn)["host"]).split(",")


def scan(archive_servers: ArchiveServers) -> HistoryPage:
    history = PostgresHistory(archive_servers, ActivePatterns, [LOG])
    return asyncio.run(history.page(Query(time()), "recorded"))


def test_answers_of_a_standby_that_lags_say_how_far_they_reach_and_the_trail_is_complete(archive: Archive) -> None:
    archive.pair.pause_replay()
    archive.extend("MSFT")
    answer = scan(archive.servers)
    assert (answer.positions, answer.page.total) == ({LOG: 2}, 1)
    assert scan(ArchiveServers(archive.servers.primary)).positions == {LOG: 4}
    history = ArchiveHistory(archive.servers, {LOG: archive.log})
    page = asyncio.run(history.events(EventFilter(), {}, 10))
    assert [event.entry.position for event in page.events] == [1, 2, 3, 4]
    assert [event.hash is None for event in page.events] == [False, False, True, True], "the log has the later events"
    archive.pair.resume_replay()
    archive.standby.catch_up()
    assert scan(archive.servers).positions == {LOG: 4}


def test_a_verification_waits_for_the_standby_and_is_recorded_on_the_primary_server(
    archive: Archive, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby_module, "CATCH_UP_SECONDS", 0.2)
    settings = Settings(redis_url=redis_url, postgres_dsn=archive.primary.dsn, postgres_read_dsn=archive.standby.dsn)
    archive.pair.pause_replay()
    archive.extend("MSFT")
    with pytest.raises(ArchiveUnavailableError, match=r"is 2 events behind .* did not catch up within"):
        verify_everything(settings, archive.standby)
    archive.pair.resume_replay()
    monkeypatch.undo()
    verification = verify_everything(settings, archive.standby)
    assert verification.ok
    assert [(log.log, log.last) for log in verification.logs] == [(LOG, 4)]
    assert record_if_whole(archive.standby.primary, verification, None, WHOLE_ARCHIVE)
    assert not record_if_whole(archive.standby, verification, None, WHOLE_ARCHIVE)


def test_the_primary_server_answers_while_the_standby_is_away_and_health_says_so(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_status, "MAX_STANDBY_LAG_SECONDS", -1)
    statuses = asyncio.run(archive_server_statuses(archive.servers))
    assert statuses.keys() == {"postgres", "postgres_standby"}
    assert all(status.up for status in statuses.values())
    assert "is 0 s behind the primary server" in statuses["postgres_standby"].warnings[0]

    away = Standby(f"postgresql://127.0.0.1:{free_port()}/none", archive.primary)
    with pytest.raises(StandbyNotReadyError, match=r"does not serve TickView: .* Check TICKVIEW_POSTGRES_READ_DSN"):
        away.check()
    archive_servers = ArchiveServers(ArchiveGateway(archive.primary), ArchiveGateway(away, "standby"))
    assert scan(archive_servers).page.total == 1
    status = asyncio.run(archive_server_statuses(archive_servers))["postgres_standby"]
    assert (status.up, status.warnings) == (False, [server_status.READ_FROM_PRIMARY])


def test_a_server_that_is_no_copy_of_the_primary_server_is_refused(archive: Archive, postgres_18_dsn: str) -> None:
    with servers.new_database(postgres_18_dsn, servers.TEMPLATE) as dsn:
        other = Standby(dsn, archive.primary)
        with pytest.raises(StartupError, match="READ_DSN is no copy of the primary server: its system identifier"):
            other.check()
        archive_servers = ArchiveServers(ArchiveGateway(archive.primary), ArchiveGateway(other, "standby"))
        assert scan(archive_servers).positions == {LOG: 2}
        status = asyncio.run(archive_server_statuses(archive_servers))["postgres_standby"]
        assert status.up
        assert "no copy" in status.warnings[0]


def test_a_standby_that_lacks_the_schema_is_not_ready(archive: Archive) -> None:
    without_schema = archive.pair.on_standby(archive.pair.primary)
    with pytest.raises(StandbyNotReadyError, match="lacks migration 1"):
        Standby(without_schema, archive.primary).check()
    with pytest.raises(StartupError, match=r"is a standby, and lacks migration 1 .* with the primary server first"):
        Database(without_schema).check()


def test_a_standby_is_no_primary_server(archive: Archive) -> None:
    database = Database(archive.standby.dsn)
    with pytest.raises(StartupError, match="let it name all servers, of which the primary server is then used"):
        database.check(writable=True)
    status = asyncio.run(archive_server_statuses(ArchiveServers(ArchiveGateway(database))))["postgres"]
    assert status.warnings == [server_status.STANDBY_AS_PRIMARY]
    database.close()


def test_with_several_hosts_the_archive_is_written_to_the_primary_and_read_from_the_standby(archive: Archive) -> None:
    both = archive.pair.on_both(archive.primary.dsn)

    def is_standby(database: Database) -> bool:
        with database.connection() as connection:
            [[is_standby]] = connection.execute("SELECT pg_is_in_recovery()")
        return bool(is_standby)

    with open_database(both) as database:
        database.check(writable=True)
        assert not is_standby(database)
    preferring = Standby(make_conninfo(both, host=",".join(reversed(hosts_of(both)))), archive.primary)
    preferring.check()
    assert is_standby(preferring)
    preferring.close()
