"""Socket.IO of the real service with two API processes, and clients of the library in processes of their own."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import orjson
import pytest
from socketio import RedisManager
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_websocket
from websockets.typing import Origin

from infra.access.tokens import create_token
from infra.redis.connections import connect
from infra.serving.socket_io import CHANNEL
from tests import servers
from tests.processes.api_service import api, detection, post, scan_source, service
from tests.processes.roles import wait_until
from tests.processes.socket_io_client import SocketIoClient, socket_io

BACKTEST = {"event_type": "backtest_progress", "source": "tests", "job_id": "job-1", "progress": 0.25}
RESULT = {
    "event_type": "backtest_result",
    "source": "tests",
    "job_id": "job-1",
    "status": "completed",
    "results": {"win_rate": 0.5},
}
HEALTH = {"event_type": "system_health", "source": "producer", "status": "healthy", "metrics": {"cpu_usage": 0.5}}


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with servers.valkey() as server:
        yield server.connection_url


@pytest.fixture(scope="module")
def client(redis_url: str) -> Iterator[httpx.Client]:
    with service(redis_url, api_processes=2) as client:
        wait_until(lambda: all(scan_source(client) == "replica" for _ in range(10)), "the replicas answer")
        yield client


def test_clients_receive_what_they_subscribed_to(client: httpx.Client) -> None:
    with ExitStack() as stack:
        transports = ("polling,websocket", "polling", "websocket")
        first, second, third = clients = [
            stack.enter_context(socket_io(str(client.base_url), each)) for each in transports
        ]
        for each in clients:
            assert each.receive("connection_confirmed")["user_id"] == "developer"
        first.emit("subscribe_patterns", {"tickers": ["SIO1", "SIO2"], "min_confidence": 0.7, "page": "scanner"})
        second.emit("subscribe_tier_patterns", ["intraday"])
        third.emit("subscribe_pattern_alerts")
        confirmation = first.receive("subscription_confirmed")
        assert confirmation["filters"] == {"symbols": ["SIO1", "SIO2"], "confidence_min": "0.7"}
        assert confirmation["ignored"] == ["page"]
        assert second.receive("subscription_confirmed")["subscription"] == "tier_patterns"
        assert third.receive("subscription_confirmed")["subscription"] == "pattern_alerts"
        post(
            client,
            [
                detection("SIO1", confidence=0.6),
                detection("SIO2", current_price=12.5, rs=1.5),
                detection("SIO3", source="intraday"),
            ],
        )
        pattern = first.receive("pattern_detected")
        assert (pattern["symbol"], pattern["price"], pattern["rs"], pattern["source"]) == ("SIO2", 12.5, 1.5, "daily")
        assert second.receive("tier_pattern_intraday")["symbol"] == "SIO3"
        assert {third.receive("pattern_alert")["event"]["data"]["symbol"] for _ in range(3)} == {"SIO1", "SIO2", "SIO3"}
        for each in clients:
            check_updates(client, each)


def check_updates(client: httpx.Client, socket: SocketIoClient) -> None:
    """Check the events that every client receives, and the heartbeat."""
    for channel, message in (("progress", BACKTEST), ("results", RESULT)):
        document = {"channel": f"tickstock.events.backtesting.{channel}", "payload": message}
        assert client.post("/api/events", json=document).status_code == 201
    run = socket.receive("backtest_result")["event"]["data"]
    assert (run["job_id"], run["status"]) == ("job-1", "completed")
    assert client.post("/api/events", json={"channel": "tickstock.health.status", "payload": HEALTH}).status_code == 201
    assert socket.receive("system_health")["health_data"]["status"] == "healthy"
    socket.emit("heartbeat")
    assert socket.receive("heartbeat_ack")["timestamp"] > 0


def test_a_wrong_filter_is_refused(client: httpx.Client) -> None:
    with socket_io(str(client.base_url), "websocket") as socket:
        socket.emit("subscribe_patterns", {"confidence_min": 7})
        refusal = socket.receive("subscription_error")
        assert (refusal["status"], refusal["errors"][0]["field"]) == (400, "confidence_min")
        assert socket.receive("ack subscribe_patterns") == refusal


def test_other_processes_send_to_the_clients_of_all_api_processes(client: httpx.Client, redis_url: str) -> None:
    manager = RedisManager(redis_url, channel=CHANNEL, write_only=True)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket_io(str(client.base_url), "websocket")) for _ in range(4)]
        for socket in sockets:
            socket.receive("connection_confirmed")
        wait_until(lambda: subscribers(redis_url) == 2, "both processes listen")
        manager.emit("indicator_update", {"symbol": "SIO1", "rsi": 71.5})
        for socket in sockets:
            assert socket.receive("indicator_update") == {"symbol": "SIO1", "rsi": 71.5}


def subscribers(redis_url: str) -> int:
    """Return the number of processes that listen to the events of other processes."""
    with connect(redis_url) as redis:
        return int(redis.pubsub_numsub(CHANNEL)[0][1])


def test_a_client_needs_a_valid_token(redis_url: str, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    token = create_token(tokens, "anna", ["read"], None)[0]
    with api(redis_url, tokens_file=tokens, api_processes=1) as client:
        url = str(client.base_url)
        with (
            socket_io(url, token=token) as admitted,
            socket_io(url) as refused,
            socket_io(url, token=str(tmp_path)) as invalid,
        ):
            assert admitted.receive("connection_confirmed")["user_id"] == "anna"
            assert refused.receive("refused")["data"]["type"] == "urn:tickview:problem:unauthenticated"
            assert invalid.receive("refused")["data"]["type"] == "urn:tickview:problem:invalid-token"


def test_a_foreign_page_is_refused(client: httpx.Client) -> None:
    path, headers = "/socket.io/?EIO=4&transport=polling", {"Origin": "http://foreign.example"}
    refused = client.get(path, headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:tickview:problem:foreign-origin")
    assert client.get(path).status_code == 200
    url = str(client.base_url).replace("http:", "ws:") + "/socket.io/?EIO=4&transport=websocket"
    with pytest.raises(InvalidStatus) as handshake, connect_websocket(url, origin=Origin("http://foreign.example")):
        pass
    problem = orjson.loads(bytes(handshake.value.response.body or b""))
    assert (handshake.value.response.status_code, problem["type"]) == (403, "urn:tickview:problem:foreign-origin")
