"""A cluster whose slots move and whose primaries change: no position is given twice, no function is missing."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event as StopEvent
from threading import Thread

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from domain.events import Event
from domain.partitions import Partitions
from domain.streams import log_of, market_logs, symbol_stream
from infra.heartbeats.heartbeats import Heartbeats, read_liveness
from infra.heartbeats.progress import Progress
from infra.log.append import Appended
from infra.log.directory import LogDirectory
from infra.log.errors import StreamElsewhereError
from infra.log.event_log import EventLog
from infra.log.handle import DEFAULT_LOG_OPTIONS
from infra.log.keys import LogKeys
from infra.log.maintenance import trim
from infra.log.partitions import fix_partitions
from infra.log.routing import StreamRouter
from infra.operations.server_status import redis_status
from infra.recording.event_appender import EventAppender
from infra.recording.gaps import read_gaps
from infra.recording.intake import Intake
from infra.recording.pubsub_listener import PubsubListener
from infra.redis import cluster_clients, functions
from infra.redis.cluster import unheard_channels
from infra.redis.connections import CONNECTIONS, connect, connect_async
from infra.redis.scans import ScanInterruptedError, read_hash_pages, scan_hash
from infra.redis.server_errors import is_moving
from infra.redis.stream_reads import StreamReads
from tests.clusters import SLOTS, Cluster, move_key, moving_slot, node_id, redis_cluster
from tests.events import new_events, opaque_event, pattern_detected
from tests.processes.roles import wait_until

LOG = "market-0"
SLOT = key_slot(LogKeys(LOG).log.encode())


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster of two primaries, and a third one without a slot. Each test moves slots of its own."""
    with redis_cluster(2, with_replicas=False, spare=1, **{"enable-debug-command": "local"}) as cluster:
        yield cluster


@pytest.fixture
def new_cluster() -> Iterator[Cluster]:
    """A cluster like ``cluster``, for one test. Its third primary has no function."""
    with redis_cluster(2, with_replicas=False, spare=1) as cluster:
        yield cluster


def owner(slot: int) -> int:
    """Return the number of the primary that has a slot at first."""
    return slot * 2 // SLOTS


def test_a_moved_slot_gives_no_position_twice(cluster: Cluster) -> None:
    """Appends wait while the keys of their slot are moved, one after the other, to a primary without functions."""
    source, target = cluster.nodes[owner(SLOT)], cluster.nodes[-1]
    appended: list[Appended] = []
    stop = StopEvent()
    with connect(cluster.url) as client, ThreadPoolExecutor(1) as threads:
        log = EventLog(client, LOG)

        def append() -> None:
            while not stop.is_set():
                appended.extend(log.append([opaque_event(event_id=f"event-{len(appended)}")]))

        writer = threads.submit(append)
        wait_until(lambda: len(appended) > 50, "events are appended")
        with moving_slot(source, target, SLOT) as steps:
            for _ in steps:
                time.sleep(0.02)
        before = len(appended)
        wait_until(lambda: len(appended) > before + 50, "events are appended on the other primary")
        stop.set()
        writer.result()
        assert [each.position for each in appended] == list(range(1, len(appended) + 1))
        assert not any(each.duplicate for each in appended)
        assert [entry.position for entry in log.read(0, 10_000)] == list(range(1, len(appended) + 1))
        assert source.execute_command("CLUSTER", "COUNTKEYSINSLOT", SLOT) == 0


def test_batches_for_the_logs_of_several_nodes_keep_the_order_of_each_stream_while_a_slot_moves(
    cluster: Cluster,
) -> None:
    symbols = [f"C{n}" for n in range(24) if log_of(symbol_stream(f"C{n}"), 12) not in market_logs(4)]  # of other tests
    slot = key_slot(LogKeys(log_of(symbol_stream(symbols[0]), 12)).log.encode())
    recorded: list[Event] = []
    stop = StopEvent()
    with connect(cluster.url) as client, ThreadPoolExecutor(1) as threads:
        logs = LogDirectory(client, lambda name: EventLog(client, name), Partitions.of(12))
        appender = EventAppender(logs)

        def append() -> None:
            while not stop.is_set():
                batch = [
                    pattern_detected(symbol=symbols[number % len(symbols)], event_id=f"event-c{number}")
                    for number in range(len(recorded), len(recorded) + 32)
                ]
                places = appender.append(batch, new_events(batch))
                assert not any(place is None or place.duplicate for place in places)
                recorded.extend(batch)

        writer = threads.submit(append)
        wait_until(lambda: recorded, "events are appended")
        with moving_slot(cluster.nodes[owner(slot)], cluster.nodes[-1], slot) as steps:
            next(steps)
        before = len(recorded)
        wait_until(lambda: len(recorded) > before + 32, "events are appended to all nodes")
        stop.set()
        writer.result()
        for stream in map(symbol_stream, symbols):
            ids = [event.event_id for event in recorded if event.stream == stream]
            assert [entry.event_id for entry in logs[log_of(stream, 12)].read_stream(stream)] == ids


def test_a_batch_fails_when_its_appends_to_other_nodes_have_ended(cluster: Cluster) -> None:
    failing_node, slow_node, _ = cluster.nodes
    symbols: dict[int, str] = {}
    for symbol in map("D{}".format, range(100)):
        name = log_of(symbol_stream(symbol), 64)
        if name not in market_logs(12):  # of other tests
            symbols[owner(key_slot(LogKeys(name).log.encode()))] = symbol
    events = [pattern_detected(symbol=symbols[node], event_id=f"event-d{node}") for node in (0, 1)]
    with connect(cluster.url) as client, ThreadPoolExecutor(1) as threads:
        logs = LogDirectory(client, lambda name: EventLog(client, name), Partitions.of(64))
        failing, slow = (logs[log_of(event.stream, 64)] for event in events)
        slow.open()
        client.set(failing.keys.versions, "of another program")
        slow_node.client_pause(30_000, all=False)
        try:
            failed = threads.submit(EventAppender(logs).append, events, new_events(events))
            wait_until(lambda: "errorstat_WRONGTYPE" in failing_node.info("errorstats"), "the append to one log fails")
            with pytest.raises(TimeoutError):
                failed.result(0.2)
        finally:
            slow_node.client_unpause()
        with pytest.raises(RedisError, match="WRONGTYPE"):
            failed.result(30)
        assert [entry.event_id for entry in slow.read(0, 10)] == ["event-d1"]


def test_a_function_writes_nothing_if_one_of_its_keys_has_been_moved(cluster: Cluster) -> None:
    with connect(cluster.url) as client:
        log = EventLog(client, "market-1")
        slot = key_slot(log.keys.log.encode())
        source, target = cluster.nodes[owner(slot)], cluster.nodes[-1]
        for number in range(4):
            log.append([opaque_event()._replace(stream=f"symbol-{number}")])
        with moving_slot(source, target, slot):
            move_key(source, target, log.keys.stream("symbol-2"))
            words = [log.keys.streams_prefix, 3, 3, 0, 10]
            with pytest.raises(RedisError) as refused:
                source.execute_command(*functions.command("trim", [log.keys.log, log.keys.meta], words))
            assert is_moving(refused.value)
            assert source.lrange(log.keys.stream("symbol-1"), 0, -1) == [b"2"]
        assert trim(log, upto=3, surplus=3, oldest=0) == 3
        assert [entry.position for entry in log.read_stream("symbol-3")] == [4]


def test_a_key_is_found_while_its_slot_moves_to_an_unknown_primary(new_cluster: Cluster) -> None:
    slot = key_slot(b"key")
    source, target = new_cluster.nodes[owner(slot)], new_cluster.nodes[-1]

    async def read() -> object:
        client = connect_async(new_cluster.url)
        try:
            return await client.get("key")
        except RedisError as error:
            return is_moving(error)
        finally:
            await client.aclose()

    with connect(new_cluster.url) as client:
        client.set("key", "value")
        with moving_slot(source, target, slot):
            move_key(source, target, "key")
            assert client.get("key") == b"value"
            with client.pipeline(transaction=False) as pipeline:
                pipeline.get("key")
                assert pipeline.execute() == [b"value"]
            assert asyncio.run(read()) in (b"value", True)
        assert asyncio.run(read()) == b"value"


def test_functions_are_loaded_on_a_primary_that_joins(new_cluster: Cluster) -> None:
    names = ("record", "serve", "expire")
    added = new_cluster.nodes[-1]
    with connect(new_cluster.url) as client:
        functions.load(client)
        assert not added.function_list("tickview_*")
        for slot in {key_slot(b"heartbeats:%b" % name.encode()) for name in names}:
            with moving_slot(new_cluster.nodes[owner(slot)], added, slot):
                pass
        Heartbeats(client, "process", {name: lambda: [_made()] for name in names}).beat()
        liveness = read_liveness(client, names)
        assert {name: list(each.ages) for name, each in liveness.items()} == {name: ["process"] for name in names}
        assert added.function_list("tickview_*")


def _made() -> Progress:
    progress = Progress()
    progress.made()
    return progress


def test_streams_of_several_slots_are_read_as_soon_as_one_has_an_entry(cluster: Cluster) -> None:
    async def read() -> None:
        client = connect_async(cluster.url)
        reads = StreamReads(client)
        streams = {b"stream-%d" % number: "0" for number in range(12)}
        try:
            assert await reads.read(streams, 10, 50) == []
            started = time.monotonic()
            waiting = asyncio.ensure_future(reads.read(streams, 10, 5_000))
            await asyncio.sleep(0.05)
            added = await client.xadd("stream-7", {"number": 7})
            assert await waiting == [(b"stream-7", [(added, {b"number": b"7"})])]
            assert time.monotonic() - started < 5
            streams[b"stream-7"] = added.decode()
            others = [await client.xadd(f"stream-{number}", {"number": number}) for number in (1, 2)]
            found = dict(await reads.read(streams, 10, None))
            assert found == {
                b"stream-%d" % number: [(entry, {b"number": b"%d" % number})]
                for number, entry in zip((1, 2), others, strict=True)
            }
        finally:
            reads.cancel()
            await client.aclose()

    asyncio.run(read())


def test_calls_wait_for_a_free_connection(cluster: Cluster) -> None:
    async def connections_of_calls() -> int:
        client = connect_async(cluster.url)
        try:
            before = [int(node.info("clients")["connected_clients"]) for node in cluster.primaries]
            calls = [client.get(f"key-{number}") for number in range(4 * CONNECTIONS)]
            for number in range(4 * CONNECTIONS):
                pipeline = client.pipeline(transaction=False)
                pipeline.get(f"key-{number}")
                calls.append(pipeline.execute())
            await asyncio.gather(*calls)
            after = [int(node.info("clients")["connected_clients"]) for node in cluster.primaries]
            return max(now - then for now, then in zip(after, before, strict=True))
        finally:
            await client.aclose()

    assert 1 < asyncio.run(connections_of_calls()) <= CONNECTIONS


def test_a_scan_of_a_hash_that_moves_begins_again(cluster: Cluster) -> None:
    slot = key_slot(b"hash")
    source, target = cluster.nodes[owner(slot)], cluster.nodes[-1]
    fields = {f"field-{number}": number for number in range(2_000)}
    with connect(cluster.url) as client:
        client.hset("hash", mapping=fields)
        pages = scan_hash(client, "hash", 100)
        next(pages)

        async def read_pages() -> None:
            reader = connect_async(cluster.url)
            try:
                first = await read_hash_pages(reader, {"hash": 0}, 100)
                with moving_slot(source, target, slot):
                    pass
                with pytest.raises(ScanInterruptedError):
                    await read_hash_pages(reader, {"hash": first["hash"].cursor}, 100)
            finally:
                await reader.aclose()

        asyncio.run(read_pages())
        with pytest.raises(ScanInterruptedError):
            list(pages)
        assert len(dict(scan_hash(client, "hash", 100))) == len(fields)


def test_a_subscription_at_any_node_hears_all_channels(cluster: Cluster) -> None:
    channels = {f"channel-{number}" for number in range(8)}
    with connect(cluster.url) as client, cluster.nodes[0].pubsub() as pubsub:
        assert unheard_channels(client, channels) == channels
        pubsub.subscribe("channel-1", "channel-2")
        wait_until(
            lambda: unheard_channels(client, channels) == channels - {"channel-1", "channel-2"},
            "two channels have a subscriber",
        )
        pubsub.psubscribe("channel-*")
        wait_until(lambda: not unheard_channels(client, channels), "a pattern may have subscribed to all channels")


def test_a_broken_connection_between_two_nodes_is_a_gap(cluster: Cluster) -> None:
    """What one node should have passed on to the other is lost. The canaries before and after are heard."""
    stop = StopEvent()
    broken = "the nodes of the cluster have lost a connection to each other"
    with connect(cluster.url, retries=0) as subscriber, connect(cluster.url) as client:
        intake = Intake(lambda _: [], backlog=10, batch_size=10, batch_seconds=0)
        listener = PubsubListener(subscriber, client, intake, "recorder", lambda: None)
        thread = Thread(target=listener.run, args=(stop,))
        thread.start()
        try:
            wait_until(lambda: listener.progress.has_begun, "a canary is heard")
            assert read_gaps(client) == []
            for node in cluster.nodes:
                for other in {*map(node_id, cluster.nodes)} - {node_id(node)}:
                    node.execute_command("DEBUG", "CLUSTERLINK", "KILL", "ALL", other)
            moment = time.time()
            wait_until(lambda: [gap.reason for gap in read_gaps(client)][:1] == [broken], "the gap is stored")
            assert read_gaps(client)[-1].began_at < moment < read_gaps(client)[0].ended_at
        finally:
            stop.set()
            thread.join()


def test_health_names_the_primary_that_does_not_answer(new_cluster: Cluster) -> None:
    with connect(new_cluster.url, retries=0) as client:
        assert redis_status(client, DEFAULT_LOG_OPTIONS).up
        new_cluster.nodes[0].config_set("maxmemory-policy", "allkeys-lru")
        status = redis_status(client, DEFAULT_LOG_OPTIONS)
        [failure] = status.failures
        assert failure.startswith(f"127.0.0.1:{new_cluster.servers[0].port} deletes data")
        lost = f"127.0.0.1:{new_cluster.servers[1].port}"
        new_cluster.servers[1].terminate()

        def reasons() -> list[str]:
            return list(redis_status(client, DEFAULT_LOG_OPTIONS).warnings)

        wait_until(lambda: any("is in a cluster that is down" in reason for reason in reasons()), "the cluster is down")
        assert f"{lost} does not answer" in reasons()
        assert not redis_status(client, DEFAULT_LOG_OPTIONS).up


def test_recorders_find_streams_after_a_raise_on_all_primaries(new_cluster: Cluster) -> None:
    """The partitions are on several primaries. The number of all processes is on one of them."""
    with connect(new_cluster.url) as client:
        fix_partitions(client, 4)
        symbols = [f"S{number}" for number in range(24)]
        stale, logs = (LogDirectory(client, lambda name: EventLog(client, name), Partitions.of(4)) for _ in range(2))
        routes = StreamRouter(logs).route(map(symbol_stream, symbols[:12]))
        for stream, log in routes.logs.items():
            logs[log].append([opaque_event(stream=stream)], partitions=routes.partitions)
        logs.raise_partitions(Partitions(9, 4))
        found = StreamRouter(logs).route(map(symbol_stream, symbols))
        assert found.partitions == Partitions(9, 4)
        assert {stream: found.logs[stream] for stream in routes.logs} == routes.logs
        new = {stream: log for stream, log in found.logs.items() if stream not in routes.logs}
        assert new == {stream: log_of(stream, 9) for stream in map(symbol_stream, symbols[12:])}
        router = StreamRouter(stale)
        stream = next(stream for stream, log in new.items() if log not in market_logs(4))
        outdated = router.route([stream])
        with pytest.raises(StreamElsewhereError) as refused:
            stale[outdated.logs[stream]].append([opaque_event(stream=stream)], partitions=outdated.partitions)
        router.settle(refused.value)
        assert router.route([stream]).logs == {stream: new[stream]}


def test_a_former_primary_that_answers_is_no_primary_to_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its replica has taken over. No command that needs all primaries is redirected by it."""
    monkeypatch.setattr(cluster_clients, "NODES_SECONDS", 0.2)
    with redis_cluster(1) as cluster, connect(cluster.url) as client:
        assert redis_status(client, DEFAULT_LOG_OPTIONS).warnings == []
        former, promoted = cluster.nodes
        promoted.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
        wait_until(lambda: former.role()[0] == b"slave", "the former primary is a replica")
        wait_until(lambda: redis_status(client, DEFAULT_LOG_OPTIONS).warnings == [], "the client knows the new primary")


def test_each_segment_of_a_worker_has_a_connection_to_its_node(cluster: Cluster) -> None:
    with connect(cluster.url) as client:
        pool = client.get_node_from_key("tickview").redis_connection.connection_pool
        waiting = [pool.get_connection() for _ in range(385)]
        assert client.get("tickview") is None, "one more command"
        for connection in waiting:
            pool.release(connection)
