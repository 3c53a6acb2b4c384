"""Coming back to live push: what was missed comes once and in order, or a reset says that it cannot."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import orjson
import pytest

from projections.versions import Build
from readapi.ports.commits import CommitId
from tests.integration.push_server import Server, detection_commit, receive, serving
from tests.processes.roles import wait_until
from tests.push import commit_of
from tests.queries import row_of


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.mark.parametrize("transport", ["websocket", "header", "parameter"])
def test_who_comes_back_gets_what_was_missed_once_and_then_what_is_new(server: Server, transport: str) -> None:
    for position in range(1, 1_301):
        server.hear(detection_commit(position)[1])
    wait_until(
        lambda: server.hub.published["patterns"].last_commits["market-0"] == CommitId(1_300), "all has been told"
    )
    last = "patterns:1.1/market-0=40-0"

    def follow(messages: Iterator[dict[str, Any]]) -> None:
        assert next(messages) == {"type": "ready", "id": last, "resumed": True}
        symbols: list[str] = []
        while len(symbols) < 1_260:
            message = next(messages)
            assert len(message["changes"]) <= 500
            symbols += [change["pattern"]["symbol"] for change in message["changes"]]
        server.hear(detection_commit(1_301)[1])
        symbols += [change["pattern"]["symbol"] for change in next(messages)["changes"]]
        assert symbols == [f"S{position}" for position in range(41, 1_302)]

    if transport == "websocket":
        with server.websocket(f"/ws/patterns?last_event_id={last}") as connection:
            follow(orjson.loads(message) for message in connection)
    elif transport == "header":
        with server.events("?last_event_id=patterns:1.1/market-0=1299-0", **{"Last-Event-ID": last}) as events:
            follow(events)
    else:
        with server.events(f"?last_event_id={last}") as events:
            follow(events)
    assert server.count("resumed_total") == 1
    assert server.count("reset_total") == 0


def test_who_come_back_together_are_each_told_what_they_asked_for(server: Server) -> None:
    for position in range(1, 1_001):
        server.hear(detection_commit(position, confidence=position / 1_000)[1])
    wait_until(
        lambda: server.hub.published["patterns"].last_commits["market-0"] == CommitId(1_000), "all has been told"
    )
    path = "/ws/patterns?last_event_id=patterns:1.1/market-0=0-0&confidence_min={}"
    for lowest in (0.25, 0.75, 0.25, 0.75):
        with server.websocket(path.format(lowest)) as connection:
            assert receive(connection)["resumed"] is True
            symbols: list[str] = []
            while not symbols or symbols[-1] != "S1000":
                symbols += [change["pattern"]["symbol"] for change in receive(connection)["changes"]]
            assert symbols == [f"S{position}" for position in range(int(lowest * 1_000), 1_001)]


def test_who_joins_while_much_is_told_is_told_nothing_twice_and_nothing_is_left_out(server: Server) -> None:
    rows = [row_of(f"S{number}", "Doji", "daily", 900.0, 0.8) for number in range(30)]
    commits = [commit_of("market-0", position, *((row.id, row, row) for row in rows)) for position in range(1, 61)]

    def hear_all() -> None:
        for commit in commits:
            server.hear(commit)

    told = 0
    with ThreadPoolExecutor(1) as pool, ExitStack() as others:
        for _ in range(150):  # more than are written to in one turn, so that others have theirs before all are
            receive(others.enter_context(server.websocket("/ws/patterns?symbols=S1", max_queue=100)))
        hearing = pool.submit(hear_all)
        while told < len(commits):
            with server.websocket("/ws/patterns") as connection:
                known = int(receive(connection)["id"].rpartition("=")[2].partition("-")[0])
                assert known >= told
                while known < len(commits):
                    message = receive(connection)
                    position = int(message["position"].partition("=")[2])
                    assert len(message["changes"]) == 30 * (position - known)
                    known = position
                    if position % 3 == 0:
                        break
                told = known
        hearing.result()


def test_who_is_ahead_of_the_process_is_waited_for(server: Server) -> None:
    with server.websocket("/ws/patterns?last_event_id=patterns:1.1/market-0=2-0") as connection:
        for position in (1, 2, 3):
            server.hear(detection_commit(position)[1])
        assert receive(connection) == {"type": "ready", "id": "patterns:1.1/market-0=2-0", "resumed": True}
        assert [change["pattern"]["symbol"] for change in receive(connection)["changes"]] == ["S3"]


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        ("patterns:1.1/market-0=99-0", "the id is ahead of the changes that this API process knows"),
        ("patterns:1.1/market-9=0-0", "the id is ahead of the changes that this API process knows"),
        ("patterns:1.0/market-0=0-0", "the id is of build 1.0, but build 1.1 of the read model answers now"),
    ],
)
def test_who_cannot_be_told_what_was_missed_is_told_so_and_goes_on(server: Server, last: str, reason: str) -> None:
    with server.websocket(f"/ws/patterns?last_event_id={last}") as connection:
        now = "patterns:1.1/market-0=0-0"
        assert receive(connection) == {"type": "ready", "id": now, "resumed": False}
        assert receive(connection) == {"type": "reset", "id": now, "topic": "patterns", "reason": reason}
        server.hear(detection_commit(1)[1])
        assert receive(connection)["type"] == "changes"
    assert server.count("reset_total") == 1
    assert server.count("resumed_total") == 0


def test_what_is_no_longer_kept_is_a_reset(server: Server) -> None:
    server.begin(position=100)
    wait_until(
        lambda: server.hub.published["patterns"].last_commits["market-0"] == CommitId(100), "the hub has begun again"
    )
    with server.websocket("/ws/patterns?last_event_id=patterns:1.1/market-0=7-0") as connection:
        assert receive(connection)["resumed"] is False
        assert receive(connection)["reason"] == "the changes after the id are no longer in the replay buffer"


def test_a_switch_to_another_build_is_a_reset_for_all(server: Server) -> None:
    with server.websocket("/ws") as connection, server.events() as events:
        receive(connection)
        next(events)
        server.begin(Build(2, 2), position=7)
        resets = [receive(connection), receive(connection)]
        assert {reset["topic"] for reset in resets} == {"patterns", "backtests"}
        assert resets[-1]["id"] == "backtests:2.2/market-0=7-0;patterns:2.2/market-0=7-0"
        assert next(events)["reason"] == "another build of the read model answers now"
        row = row_of("AAPL", "Doji", "daily", 900.0, 0.8)
        server.hear(commit_of("market-0", 8, (row.id, None, row), build=Build(2, 2)))
        assert receive(connection)["id"] == "backtests:2.2/market-0=7-0;patterns:2.2/market-0=8-0"
        assert next(events)["position"] == "market-0=8"
