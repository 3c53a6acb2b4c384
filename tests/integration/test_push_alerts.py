"""Alerts over live push: every connection of the user receives them, and no connection of anybody else."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from readapi.push.messages import event
from readapi.push.metrics import PushMetrics
from readapi.push.subscribers import Subscriber, Subscribers
from tests.integration.push_server import PushServer, detection_commit, receive, running_push_server, symbols_in

ALICE, BOB = {"X-User-ID": "alice"}, {"X-User-ID": "bob"}


@pytest.fixture
def server() -> Iterator[PushServer]:
    with running_push_server() as server:
        yield server


def send_alert(server: PushServer, user: str, alert: dict[str, Any]) -> None:
    assert server.loop is not None
    asyncio.run_coroutine_threadsafe(server.hub.send_alert(user, alert), server.loop).result(10)


def test_an_alert_reaches_all_connections_of_its_user_and_no_other(server: PushServer) -> None:
    with (
        server.websocket("/ws/patterns?symbols=S1", additional_headers=ALICE) as websocket,
        server.event_stream("?topics=producers", "/api/stream", **ALICE) as events,
        server.websocket("/ws/patterns?symbols=S1", additional_headers=BOB) as other,
    ):
        ready = receive(websocket)
        assert (ready["type"], next(events)["type"], receive(other)["type"]) == ("ready",) * 3
        send_alert(server, "alice", {"data": {"id": "msg_1"}})
        expected = {"type": "alert", "alert": {"data": {"id": "msg_1"}}}
        assert receive(websocket) == next(events) == expected
        server.deliver(detection_commit(1)[1])
        assert symbols_in(receive(other)) == symbols_in(receive(websocket)) == ["S1"]
        send_alert(server, "nobody", {})
    # A client that resumes after the alert resumes its topics, and receives the alert no second time.
    with server.websocket(f"/ws/patterns?symbols=S1&last_event_id={ready['id']}", additional_headers=ALICE) as resumed:
        assert receive(resumed)["resumed"] is True
        assert symbols_in(receive(resumed)) == ["S1"]


class KeptStream:
    """A stream that keeps what is written."""

    unsent_bytes = 0
    is_ended = False

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def test_a_client_whose_token_has_ended_receives_no_alert() -> None:
    stream: Any = KeptStream()
    admitted = [True]
    subscribers = Subscribers(PushMetrics(), 1_000_000)
    subscriber = Subscriber(stream, event, (), lambda: admitted[0], "alice")
    subscribers.join(subscriber)
    assert [subscription for subscription, _ in subscribers.audience_of("alice")] == [()]
    admitted[0] = False
    assert subscribers.audience_of("alice") == []
    admitted[0] = True
    subscribers.leave(subscriber)
    assert subscribers.audience_of("alice") == []
