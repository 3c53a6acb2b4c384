"""Resumption of live push: a client gets the changes after its last id once and in order, or a reset."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import orjson
import pytest

from projections.versions import Build
from readapi.ports.commits import CommitId
from tests.integration.push_server import PushServer, detection_commit, receive, running_push_server, symbols_in
from tests.pattern_queries import pattern_row
from tests.processes.roles import wait_until
from tests.push import commit_of


def wait_until_published(server: PushServer, position: int) -> None:
    wait_until(
        lambda: server.hub.published["patterns"].last_commits["market-0"] == CommitId(position),
        f"the hub has published position {position}",
    )


@pytest.fixture
def server() -> Iterator[PushServer]:
    with running_push_server() as server:
        yield server


@pytest.mark.parametrize("transport", ["websocket", "header", "parameter"])
def test_a_resuming_client_gets_missed_changes_exactly_once_and_then_new_changes(
    server: PushServer, transport: str
) -> None:
    for position in range(1, 1_301):
        server.deliver(detection_commit(position)[1])
    wait_until_published(server, 1_300)
    last_id = "patterns:1.1/market-0=40-0"

    def follow(messages: Iterator[dict[str, Any]]) -> None:
        assert next(messages) == {"type": "ready", "id": last_id, "resumed": True}
        symbols: list[str] = []
        while len(symbols) < 1_260:
            message = next(messages)
            assert len(message["changes"]) <= 500
            symbols += symbols_in(message)
        server.deliver(detection_commit(1_301)[1])
        symbols += symbols_in(next(messages))
        assert symbols == [f"S{position}" for position in range(41, 1_302)]

    if transport == "websocket":
        with server.websocket(f"/ws/patterns?last_event_id={last_id}") as connection:
            follow(orjson.loads(message) for message in connection)
    elif transport == "header":
        with server.event_stream("?last_event_id=patterns:1.1/market-0=1299-0", **{"Last-Event-ID": last_id}) as events:
            follow(events)
    else:
        with server.event_stream(f"?last_event_id={last_id}") as events:
            follow(events)
    assert server.metric("resumed_total") == 1
    assert server.metric("reset_total") == 0


def test_clients_that_resume_together_get_the_changes_of_their_own_filters(server: PushServer) -> None:
    for position in range(1, 1_001):
        server.deliver(detection_commit(position, confidence=position / 1_000)[1])
    wait_until_published(server, 1_000)
    path = "/ws/patterns?last_event_id=patterns:1.1/market-0=0-0&confidence_min={}"
    for minimum in (0.25, 0.75, 0.25, 0.75):
        with server.websocket(path.format(minimum)) as connection:
            assert receive(connection)["resumed"] is True
            symbols: list[str] = []
            while not symbols or symbols[-1] != "S1000":
                symbols += symbols_in(receive(connection))
            assert symbols == [f"S{position}" for position in range(int(minimum * 1_000), 1_001)]


def test_a_client_that_joins_during_many_commits_gets_each_later_change_exactly_once(server: PushServer) -> None:
    rows = [pattern_row(f"S{number}", "Doji", "daily", 900.0, 0.8) for number in range(30)]
    commits = [commit_of("market-0", position, *((row.id, row, row) for row in rows)) for position in range(1, 61)]

    def deliver_all() -> None:
        for commit in commits:
            server.deliver(commit)

    last_position = 0
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        for _ in range(150):  # More clients than the hub writes to in one turn.
            receive(stack.enter_context(server.websocket("/ws/patterns?symbols=S1", max_queue=100)))
        delivery = pool.submit(deliver_all)
        while last_position < len(commits):
            with server.websocket("/ws/patterns") as connection:
                received = int(receive(connection)["id"].rpartition("=")[2].partition("-")[0])
                assert received >= last_position
                while received < len(commits):
                    message = receive(connection)
                    position = int(message["position"].partition("=")[2])
                    assert len(message["changes"]) == 30 * (position - received)
                    received = position
                    if position % 3 == 0:
                        break
                last_position = received
        delivery.result()


def test_a_client_ahead_of_the_process_resumes_when_the_process_catches_up(server: PushServer) -> None:
    with server.websocket("/ws/patterns?last_event_id=patterns:1.1/market-0=2-0") as connection:
        for position in (1, 2, 3):
            server.deliver(detection_commit(position)[1])
        assert receive(connection) == {"type": "ready", "id": "patterns:1.1/market-0=2-0", "resumed": True}
        assert symbols_in(receive(connection)) == ["S3"]


@pytest.mark.parametrize(
    ("last_id", "reason"),
    [
        ("patterns:1.1/market-0=99-0", "the id is ahead of the changes that this API process knows"),
        ("patterns:1.1/market-9=0-0", "the id is ahead of the changes that this API process knows"),
        ("patterns:1.0/market-0=0-0", "the id is of build 1.0, but build 1.1 of the read model answers now"),
    ],
)
def test_a_client_whose_id_cannot_be_resumed_gets_a_reset_and_new_changes(
    server: PushServer, last_id: str, reason: str
) -> None:
    with server.websocket(f"/ws/patterns?last_event_id={last_id}") as connection:
        current_id = "patterns:1.1/market-0=0-0"
        assert receive(connection) == {"type": "ready", "id": current_id, "resumed": False}
        assert receive(connection) == {"type": "reset", "id": current_id, "topic": "patterns", "reason": reason}
        server.deliver(detection_commit(1)[1])
        assert receive(connection)["type"] == "changes"
    assert server.metric("reset_total") == 1
    assert server.metric("resumed_total") == 0


def test_an_id_before_the_replay_buffer_gets_a_reset(server: PushServer) -> None:
    server.start_build(position=100)
    wait_until_published(server, 100)
    with server.websocket("/ws/patterns?last_event_id=patterns:1.1/market-0=7-0") as connection:
        assert receive(connection)["resumed"] is False
        assert receive(connection)["reason"] == "the changes after the id are no longer in the replay buffer"


def test_a_switch_to_another_build_resets_every_client(server: PushServer) -> None:
    with server.websocket("/ws") as connection, server.event_stream() as events:
        receive(connection)
        next(events)
        server.start_build(Build(2, 2), position=7)
        resets = [receive(connection), receive(connection)]
        assert {reset["topic"] for reset in resets} == {"patterns", "backtests"}
        assert resets[-1]["id"] == "backtests:2.2/market-0=7-0;patterns:2.2/market-0=7-0"
        assert next(events)["reason"] == "another build of the read model answers now"
        row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8)
        server.deliver(commit_of("market-0", 8, (row.id, None, row), build=Build(2, 2)))
        assert receive(connection)["id"] == "backtests:2.2/market-0=7-0;patterns:2.2/market-0=8-0"
        assert next(events)["position"] == "market-0=8"
