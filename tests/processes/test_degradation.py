"""Redis away while the API has a replica: reads go on and say how old they are, and nobody needs to be restarted."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import httpx

from infra.redis.connections import connect
from tests import servers
from tests.processes.api_service import detection, post, service
from tests.processes.roles import wait_until

SCAN = "/api/patterns/scan"
READS = (SCAN, "/api/patterns/stats", "/api/patterns/summary", "/api/patterns/health")


def replicated(client: httpx.Client) -> bool:
    return bool(client.get(SCAN).json()["performance"]["source"] == "replica")


def stale(client: httpx.Client) -> bool:
    return bool(client.get(SCAN).json()["stale"])


@contextmanager
def load(client: httpx.Client) -> Iterator[Callable[[], list[httpx.Response]]]:
    """Readers that ask on and on; what they have been answered so far."""
    ended = Event()
    answers: list[httpx.Response] = []

    def ask(number: int) -> None:
        while not ended.is_set():
            answers.append(client.get(SCAN, params={"per_page": 1 + number, "confidence_min": len(answers) % 70 / 100}))

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask, number) for number in range(3)]
        try:
            yield lambda: list(answers)
        finally:
            ended.set()
    for one in asking:
        one.result()


def test_redis_stopped_under_load(tmp_path: Path) -> None:
    with (
        servers.valkey(tmp_path) as server,
        service(server.connection_url, api_processes=1, wait_seconds=0.2) as client,
    ):
        header = post(client, [detection("BEFORE")])
        wait_until(lambda: client.get(SCAN, headers=header).status_code == 200, "it is folded")
        wait_until(lambda: replicated(client), "the replica answers")
        with load(client) as answers:
            fresh = client.get(SCAN)
            assert (fresh.json()["stale"], fresh.json()["age_seconds"]) == (False, None)
            assert "Warning" not in fresh.headers
            server.stop()
            wait_until(lambda: stale(client), "it says that it is stale")
            answer = client.get(SCAN, params={"symbols": "BEFORE"})
            assert answer.headers["Warning"] == '110 tickview "Response is Stale"'
            assert answer.headers["TickView-Position"] == fresh.headers["TickView-Position"]
            assert (answer.json()["pagination"]["total"], answer.json()["performance"]["source"]) == (1, "replica")
            wait_until(lambda: client.get(SCAN).json()["age_seconds"] >= 2, "it grows older")
            for path in READS:
                read = client.get(path)
                assert (read.status_code, read.json()["stale"]) == (200, True), path
            one = client.get(f"/api/patterns/{answer.json()['patterns'][0]['id']}")
            assert (one.status_code, one.json()["stale"]) == (200, True)
            assert client.get(SCAN, headers=header).status_code == 200, "what is known need not be waited for"
            log = header["TickView-Min-Position"].split("=")[0]
            assert client.get(SCAN, headers={"TickView-Min-Position": f"{log}=999"}).status_code == 504
            refused = client.post("/api/events", json=detection("DURING"))
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
            assert client.get("/api/backtests").status_code == 503
            health = client.get("/api/health")
            assert (health.status_code, health.json()["status"]) == (200, "degraded")
            assert health.json()["components"]["servers"]["redis"]["reasons"] == ["does not answer"]
            discovery = client.get("/api/pattern-discovery/health").json()
            assert (discovery["status"], discovery["patterns"], discovery["producers"]) == ("degraded", 1, None)
            patterns = client.get("/api/patterns/health").json()
            assert (patterns["status"], patterns["lag_events"], patterns["replica"]["rows"]) == ("degraded", None, 1)
            assert patterns["replica"]["bytes"] == patterns["replica"]["bytes_per_row"] > 0
            server.start()
            wait_until(lambda: not stale(client), "it is fresh again")
            header = wait_until(lambda: posted(client), "it records again")
            wait_until(lambda: client.get(SCAN, headers=header).status_code == 200, "it has caught up")
            assert client.get(SCAN).json()["pagination"]["total"] == 2
            assert client.get(SCAN).json()["performance"]["source"] == "replica"
            wait_until(lambda: client.get("/api/health").json()["status"] == "healthy", "all is well")
            shown = r'tickview_replica_rows\{pid="\d+"\} 2\.0'
            wait_until(lambda: re.search(shown, client.get("/metrics").text), "the metrics show its size")
        assert len(answers()) > 100
        assert {answer.status_code for answer in answers()} == {200}
        assert {answer.json()["performance"]["source"] for answer in answers()} == {"replica"}


def posted(client: httpx.Client) -> dict[str, Any] | None:
    answer = client.post("/api/events", json=[detection("AFTER")])
    return {"TickView-Min-Position": answer.headers["TickView-Position"]} if answer.status_code == 201 else None


def test_a_row_elapses_while_redis_is_away(tmp_path: Path) -> None:
    with servers.valkey(tmp_path) as server, service(server.connection_url, api_processes=1) as client:
        post(client, [detection("STAYS")])
        wait_until(lambda: replicated(client), "the replica answers")
        elapses = time.time() + 5
        header = post(client, [detection("ELAPSES", expires_at=elapses)])
        assert client.get(SCAN, headers=header).json()["pagination"]["total"] == 2
        server.stop()
        shown = wait_until(lambda: (page := client.get(SCAN).json())["pagination"]["total"] == 1 and page, "it elapses")
        assert time.time() >= elapses
        assert [row["symbol"] for row in shown["patterns"]] == ["STAYS"]
        server.start()


def test_redis_that_hangs_is_noticed(tmp_path: Path) -> None:
    with servers.valkey(tmp_path) as server, service(server.connection_url, api_processes=1) as client:
        header = post(client, [detection("BEFORE")])
        assert client.get(SCAN, headers=header).json()["pagination"]["total"] == 1
        wait_until(lambda: replicated(client), "the replica answers")
        with connect(server.connection_url) as redis:
            pid = redis.info("server")["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: stale(client), "it says that it is stale")
            assert client.get(SCAN).json()["pagination"]["total"] == 1
            # Whoever watches the service gives up sooner than a connection to Redis does.
            for path in ("/api/health", "/api/pattern-discovery/health", "/api/patterns/health"):
                health = client.get(path, timeout=8)
                assert (health.status_code, health.json()["status"]) == (200, "degraded"), path
            refused = client.post("/api/events", json=[detection("MEANWHILE")], timeout=25)
            assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until(lambda: not stale(client), "it is fresh again")
        header = post(client, [detection("AFTER")])
        found = client.get(SCAN, params={"symbols": "BEFORE,AFTER"}, headers=header).json()
        assert found["pagination"]["total"] == 2
