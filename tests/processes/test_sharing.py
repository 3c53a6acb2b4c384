"""Several processes of each role on a cluster share the work evenly, and share it anew when one joins or leaves.

``SHARING_PROCESSES`` is the number of processes of each role. With ``pytest -s`` the test prints the shares.
"""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any

import httpx
import psutil
import psycopg

from domain.streams import OPERATIONS_LOG, USERS_LOG, market_logs
from domain.wire import INGEST_STREAM, PATTERNS
from infra.redis.connections import RedisClient, connect
from projections.registry import READ_MODELS
from tests import servers
from tests.clusters import STEADY, Cluster, redis_cluster
from tests.processes.api_service import api, connections_by_process
from tests.processes.fork_server import ForkedProcess
from tests.processes.roles import start, stop, wait_until
from tests.processes.test_recorder import detection, payload_of
from tests.redis_traffic import Traffic, monitored

PROCESSES = int(os.environ.get("SHARING_PROCESSES", "3"))
"""Number of processes of each role."""

LOGS = [*market_logs(4), USERS_LOG, OPERATIONS_LOG]
"""The logs that the archivers share."""

ENTRIES = 2_000 * PROCESSES
"""Number of entries of the ingest stream that the recorders share."""

CONNECTIONS = 20
"""Number of connections per API process."""

REQUESTS = 10
"""Number of requests on each connection."""

SEGMENTS = sum(1 for projection in READ_MODELS.values() for log in LOGS if projection.folds(log))
"""Number of the segments that the workers share."""


def segments_by_worker(cluster: Cluster) -> Counter[str]:
    """Return the number of the segments that each worker leases."""
    shares: Counter[str] = Counter()
    for node in cluster.primaries:
        now = float(node.time()[0]) * 1_000
        for key in node.scan_iter("tickview:{*/*}:*:state", count=1_000):
            owner, until = node.hmget(key, "owner", "leased_until")
            if owner and float(until or 0) > now:
                shares[owner.decode()] += 1
    return shares


def logs_by_archiver(dsn: str) -> Counter[str]:
    """Return the number of the logs that each archiver archives."""
    statement = "SELECT owner FROM tickview.segments WHERE name = 'archive' AND leased_until > now()"
    with psycopg.connect(dsn) as connection:
        return Counter(owner for (owner,) in connection.execute(statement))


def entries_by_recorder(traffic: Sequence[Traffic], recorders: Sequence[ForkedProcess]) -> Counter[int]:
    """Return the number of entries that each recorder has acknowledged, by its process id."""
    pids = {
        f"{address.laddr.ip}:{address.laddr.port}": recorder.pid
        for recorder in recorders
        for address in psutil.Process(recorder.pid).net_connections("tcp")
    }
    shares: Counter[int] = Counter()
    for server in traffic:
        for command in server.executed():
            if command.name == "XACK":
                shares[pids[command.client]] += len(command.words) - 3
    return shares


def connections_that_scan(client: httpx.Client) -> Counter[int]:
    """Open connections that scan at the same time. Return the number that each API process has accepted."""
    port = client.base_url.port
    assert port
    connections = [HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(CONNECTIONS * PROCESSES)]

    def scan(connection: HTTPConnection) -> None:
        for _ in range(REQUESTS):
            connection.request("GET", "/api/patterns/scan")
            connection.getresponse().read()

    with ExitStack() as stack, ThreadPoolExecutor(len(connections)) as threads:
        for connection in connections:
            stack.callback(connection.close)
        list(threads.map(scan, connections))
        return connections_by_process(port)


def add_entries(redis: RedisClient) -> None:
    for first in range(0, ENTRIES, 500):
        with redis.pipeline(transaction=False) as pipeline:
            for number in range(first, first + 500):
                pipeline.xadd(INGEST_STREAM, {"channel": PATTERNS, "payload": payload_of(detection(number))})
            pipeline.execute()


def processes_of(client: httpx.Client, role: str) -> int:
    """Return the number of the living processes of a role."""
    return int(client.get("/api/health").json()["roles"].get(role, {"processes": 0})["processes"])


def report(what: str, shares: Counter[Any]) -> None:
    print(f"{what}: {sorted(shares.values(), reverse=True)}")


def is_even(shares: Counter[Any], processes: int, whole: int, tolerance: int) -> bool:
    """Return whether all of the work is shared by these processes, each with its share within the tolerance."""
    share = whole / processes
    return (
        len(shares) == min(processes, whole)
        and shares.total() == whole
        and max(shares.values()) <= share + tolerance
        and min(shares.values()) >= share - tolerance
    )


def test_many_processes_of_each_role_share_the_work_evenly(postgres_18_dsn: str) -> None:
    with (
        redis_cluster(with_replicas=False, **STEADY) as cluster,
        servers.new_database(postgres_18_dsn, servers.TEMPLATE) as dsn,
        connect(cluster.url) as redis,
        monitored(cluster.primaries) as traffic,
        ExitStack() as stack,
    ):
        settings: dict[str, Any] = {"redis_url": cluster.url, "postgres_dsn": dsn, "lease_seconds": 2}
        roles = ("archive", "project", "record")
        running = {role: [start(role, **settings) for _ in range(PROCESSES)] for role in roles}
        for processes in running.values():
            for process in processes:
                stack.callback(stop, process)
        client = stack.enter_context(api(api_processes=PROCESSES, **settings))

        def wait_until_shared(processes: int) -> None:
            wait_until(
                lambda: is_even(segments_by_worker(cluster), processes, SEGMENTS, 2), "the workers share the segments"
            )
            report("segments of workers", segments_by_worker(cluster))
            wait_until(lambda: is_even(logs_by_archiver(dsn), processes, len(LOGS), 1), "the archivers share the logs")
            report("logs of archivers", logs_by_archiver(dsn))

        wait_until_shared(PROCESSES)
        for role in ("record", "serve"):
            wait_until(lambda role=role: processes_of(client, role) == PROCESSES, f"all processes run: {role}")
        add_entries(redis)
        wait_until(lambda: not redis.xlen(INGEST_STREAM), "all entries are recorded")
        entries = entries_by_recorder(traffic, running["record"])
        report("entries of recorders", entries)
        assert is_even(entries, PROCESSES, ENTRIES, 2 * ENTRIES // PROCESSES // 3)
        connections = connections_that_scan(client)
        report("connections of API processes", connections)
        assert len(connections) == PROCESSES
        for role in ("archive", "project"):
            stop(running[role].pop())
        wait_until_shared(PROCESSES - 1)
