"""Health tells that a role does not work, that a way in is deaf, or that Redis is unsafe.

``tests/chaos`` checks that it does so within ten seconds.
"""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis

from domain.wire import PATTERNS
from infra.log.event_log import EventLog
from projections.base import StoredRow
from projections.patterns import ActivePatterns, PatternRow, pattern_id
from tests.events import NOON, health_reported, new_events
from tests.processes.api_service import api
from tests.processes.roles import killed_role, running_role, tickview_json, wait_until
from tests.processes.test_recorder import detection, payload_of, recorded_ids, subscribers
from tests.tcp_proxy import TcpProxy


def health_of(client: httpx.Client) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/api/health").json()
    return document


def reasons(health: dict[str, Any]) -> str:
    """Return all reasons of a health document in one text."""
    parts = [health["intake"], health["archive"], health["verification"]]
    for group in ("servers", "roles", "read_models"):
        parts += health[group].values()
    return "; ".join(reason for part in parts if part for reason in part["reasons"])


def wait_for_health(client: httpx.Client, status: str = "healthy") -> dict[str, Any]:
    try:
        wait_until(lambda: health_of(client)["status"] == status, f"the service is {status}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {reasons(health_of(client))}") from error
    return health_of(client)


@pytest.fixture
def client(redis_url: str) -> Iterator[httpx.Client]:
    """The API and a worker, without a recorder."""
    with running_role("project", redis_url=redis_url, lease_seconds=2), api(redis_url) as client:
        yield client


def metric(client: httpx.Client, name: str) -> float:
    [value] = [line.split()[-1] for line in client.get("/metrics").text.splitlines() if line.startswith(name + " ")]
    return float(value)


def test_health_names_a_killed_recorder_and_the_gap_until_the_next(redis_url: str, client: httpx.Client) -> None:
    assert "no process hears pubsub" in reasons(health_of(client))
    with killed_role("record", redis_url=redis_url):
        health = wait_for_health(client)
        assert health["roles"].keys() == {"record", "project", "expire", "serve"}
        assert all(role["processes"] >= 1 and role["age_seconds"] < 8 for role in health["roles"].values())
        assert [health["intake"][way]["heard"] for way in ("pubsub", "stream", "http")] == [True] * 3
        assert (health["intake"]["gaps"], health["intake"]["pubsub"]["gaps"]) == ([], 0)
        assert metric(client, 'tickview_role_up{role="record"}') == metric(client, "tickview_healthy") == 1
    killed_at = time.time()
    health = wait_for_health(client, "degraded")
    assert health["roles"]["record"]["processes"] == 0
    assert "no process hears pubsub" in reasons(health)
    assert metric(client, 'tickview_role_up{role="record"}') == metric(client, "tickview_healthy") == 0
    assert metric(client, 'tickview_intake_heard{way="pubsub"}') == 0
    status = tickview_json("status", redis_url=redis_url)
    assert (status["status"], status["roles"]["record"]["processes"]) == ("degraded", 0)
    with running_role("record", redis_url=redis_url):
        health = wait_for_health(client)
        [gap] = health["intake"]["gaps"]
        assert (gap["way"], gap["reason"], gap["others"]) == ("pubsub", "no recorder was running", 0)
        assert killed_at - 10 < gap["began_at"] < killed_at < gap["ended_at"] < time.time()
        wait_until(lambda: health_of(client)["intake"]["pubsub"]["gaps"] == 1, "the gap is counted")
    assert health_of(client)["roles"]["record"]["processes"] == 0, "a recorder that ends in order is missed at once"


def test_a_closed_subscription_is_a_gap_and_later_messages_are_recorded(
    redis_url: str, redis: Redis, client: httpx.Client
) -> None:
    with running_role("record", redis_url=redis_url):
        wait_for_health(client)
        redis.client_kill_filter(_type="pubsub")
        [gap] = wait_until(lambda: health_of(client)["intake"]["gaps"], "the gap is stored")
        assert gap["ended_at"] - gap["began_at"] < 15
        wait_until(lambda: subscribers(redis) == 1, "the recorder has subscribed again")
        redis.publish(PATTERNS, payload_of(detection(1)))
        wait_until(lambda: len(recorded_ids(redis)) == 1, "the message is recorded")


def test_messages_that_a_suspended_recorder_loses_lie_in_a_gap(
    redis_url: str, redis: Redis, client: httpx.Client
) -> None:
    limit = redis.config_get("client-output-buffer-limit")
    with running_role("record", redis_url=redis_url) as recorder:
        wait_for_health(client)
        try:
            os.kill(recorder.pid, signal.SIGSTOP)
            redis.config_set("client-output-buffer-limit", "pubsub 1000 0 0")
            published_at = time.time()
            redis.publish(PATTERNS, payload_of(detection(1)))
            wait_until(lambda: redis.publish(PATTERNS, b"x" * 1_000_000) == 0, "the server closes the subscription")
        finally:
            redis.config_set("client-output-buffer-limit", limit["client-output-buffer-limit"])
        wait_until(lambda: time.time() > published_at + 2, "the recorder hears the first message late")
        os.kill(recorder.pid, signal.SIGCONT)
        [gap] = wait_until(lambda: health_of(client)["intake"]["gaps"], "the gap is stored")
        assert published_at - 10 < gap["began_at"] < published_at
        wait_until(lambda: len(recorded_ids(redis)) == 1, "the message that the recorder had received is recorded")


def test_a_second_recorder_closes_the_gap_of_the_first(redis_url: str, redis: Redis, client: httpx.Client) -> None:
    with running_role("record", redis_url=redis_url), running_role("record", redis_url=redis_url):
        wait_until(lambda: health_of(client)["roles"]["record"]["processes"] == 2, "both recorders work")
        first, *_ = redis.client_list(_type="pubsub")
        redis.client_kill_filter(_id=first["id"])

        def gaps() -> list[dict[str, Any]]:
            return [gap for gap in health_of(client)["intake"]["gaps"] if gap["others"] == 1]

        [gap] = wait_until(gaps, "the gap names the other recorder")
        assert gap["reason"] != "no recorder was running"
        wait_until(lambda: len(health_of(client)["intake"]["gaps"]) == 1, "the second start is no gap")


def test_a_muted_subscription_is_replaced(redis_url: str, redis: Redis, client: httpx.Client) -> None:
    port = int(redis_url.rpartition(":")[2])
    with TcpProxy(port) as proxy, running_role("record", redis_url=f"redis://127.0.0.1:{proxy.port}"):
        wait_for_health(client)
        assert proxy.mute(b"SUBSCRIBE") == 1
        [gap] = wait_until(lambda: health_of(client)["intake"]["gaps"], "the gap is stored")
        assert "has delivered no message" in gap["reason"]
        wait_for_health(client)
        redis.publish(PATTERNS, payload_of(detection(1)))
        wait_until(lambda: len(recorded_ids(redis)) == 1, "the message is recorded")


def test_a_subscription_that_is_never_confirmed_is_replaced(redis_url: str, redis: Redis, client: httpx.Client) -> None:
    port = int(redis_url.rpartition(":")[2])
    with TcpProxy(port) as proxy:
        proxy.muting = b"SUBSCRIBE"
        with running_role("record", redis_url=f"redis://127.0.0.1:{proxy.port}"):
            wait_until(lambda: "has delivered no message" in reasons(health_of(client)), "health names the reason")
            proxy.muting = None
            wait_for_health(client)
            redis.publish(PATTERNS, payload_of(detection(1)))
            wait_until(lambda: len(recorded_ids(redis)) == 1, "the message is recorded")


def test_health_names_a_recorder_without_channel_rights(client: httpx.Client, redis_url: str, redis: Redis) -> None:
    redis.acl_setuser("producer", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all"])
    try:
        with running_role("record", redis_url=redis_url.replace("//", "//producer:secret@")):
            wait_until(lambda: "NoPermissionError" in reasons(health_of(client)), "health names the missing right")
            health = health_of(client)
            assert (health["status"], health["intake"]["pubsub"]["heard"]) == ("degraded", False)
            assert health["intake"]["stream"]["heard"]
            redis.execute_command("ACL", "SETUSER", "producer", "&tickstock.*")
            wait_for_health(client)
            redis.execute_command("ACL", "SETUSER", "producer", "resetchannels")
            health = wait_for_health(client, "degraded")
            assert "NoPermissionError" in reasons(health)
            redis.execute_command("ACL", "SETUSER", "producer", "allchannels")
            gaps = wait_for_health(client)["intake"]["gaps"]
            assert "permission" in gaps[0]["reason"].lower()
            redis.publish(PATTERNS, payload_of(detection(1)))
            wait_until(lambda: len(recorded_ids(redis)) == 1, "the message is recorded")
    finally:
        redis.acl_deluser("producer")


def test_health_names_a_right_that_the_api_lacks(redis_url: str, redis: Redis) -> None:
    redis.acl_setuser("reader", enabled=True, passwords=["+secret"], keys=["*"], channels=["*"], commands=["+@all"])
    try:
        with api(redis_url.replace("//", "//reader:secret@"), replica_max_rows=0) as client:
            redis.execute_command("ACL", "SETUSER", "reader", "-zrange", "-hgetall")
            health = client.get("/api/health")
            assert (health.status_code, health.json()["status"]) == (200, "degraded")
            [reason] = health.json()["servers"]["redis"]["reasons"]
            assert "the Redis user lacks a right" in reason
            assert client.get("/api/dead-letters").status_code == 503
    finally:
        redis.acl_deluser("reader")


def test_health_names_suspended_roles(client: httpx.Client, redis_url: str) -> None:
    with running_role("record", redis_url=redis_url) as recorder:
        wait_for_health(client)
        os.kill(recorder.pid, signal.SIGSTOP)
        health = wait_for_health(client, "degraded")
        assert health["roles"]["record"]["processes"] == 0
        os.kill(recorder.pid, signal.SIGCONT)
        wait_for_health(client)


def test_without_a_worker_the_service_is_unhealthy(redis_url: str) -> None:
    with api(redis_url) as client, running_role("record", redis_url=redis_url):
        with killed_role("project", redis_url=redis_url, lease_seconds=2):
            wait_for_health(client)
        wait_for_health(client, "unhealthy")
        wait_until(lambda: not health_of(client)["roles"]["project"]["processes"], "the role has no process")


def test_health_names_a_redis_that_evicts_keys_or_loses_its_append_only_file(
    client: httpx.Client, redis_url: str, redis: Redis
) -> None:
    with running_role("record", redis_url=redis_url):
        wait_for_health(client)
        for setting, unsafe, safe, status, reason in (
            ("maxmemory-policy", "allkeys-lru", "noeviction", "unhealthy", "maxmemory-policy allkeys-lru"),
            ("appendonly", "no", "yes", "degraded", "append-only file"),
        ):
            redis.config_set(setting, unsafe)
            try:
                health = wait_for_health(client, status)
                assert reason in reasons(health)
                refused = client.post("/api/events", json=detection(1)["payload"])
                assert (refused.status_code, reason in refused.json()["detail"]) == (503, True), refused.text
                assert tickview_json("status", redis_url=redis_url)["status"] == status
            finally:
                redis.config_set(setting, safe)
            wait_for_health(client)


def test_a_process_is_live_at_once_and_ready_when_its_read_models_are_loaded(redis_url: str) -> None:
    with api(redis_url) as client:
        live, ready = client.get("/api/health/live"), client.get("/api/health/ready")
        assert (live.status_code, live.json()) == (200, {"status": "live"})
        assert (ready.status_code, ready.json()["status"]) == (503, "not ready")
        assert "no build of the read model patterns is loaded" in ready.json()["reasons"]
        with running_role("project", redis_url=redis_url):
            wait_until(lambda: client.get("/api/health/ready").status_code == 200, "the process is ready")
        assert client.get("/api/health/ready").json() == {"status": "ready", "reasons": []}


def test_health_tells_that_the_log_refuses_the_end_of_a_row(redis: Redis, client: httpx.Client) -> None:
    """Another event has the id of the end. Ids of this form are reserved, but an earlier release has accepted them."""
    moment, expires_at = NOON, time.time() + 1
    data = {"symbol": "AAPL", "pattern": "Doji", "tier": "daily", "confidence": 0.5, "timestamp": moment}
    message = {"event_type": "pattern_detected", "data": {**data, "expires_at": expires_at}}
    [recorded] = client.post("/api/events", json=message).json()["events"]
    row = PatternRow(
        pattern_id("AAPL", "Doji", "daily", moment), "AAPL", "Doji", "daily", 0.5, moment, moment, expires_at
    )
    end = ActivePatterns().expiry(StoredRow(row, recorded["position"]))
    EventLog(redis, recorded["log"]).append(new_events([health_reported(event_id=end.event_id)]))
    wait_until(lambda: "has the id of the end" in str(health_of(client)["roles"]["expire"]), "health names the error")
    assert metric(client, 'tickview_role_up{role="expire"}') == 0
