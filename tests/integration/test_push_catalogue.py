"""Live push and the catalogue: who asks by sector or universe is told when these come to mean something else."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.catalogue import symbol
from tests.integration.push_server import Server, detection_commit, receive, serving
from tests.processes.roles import wait_until

REASON = "the catalogue or a list has changed, and the filters may select other symbols now"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def change(server: Server, *members: str) -> None:
    """The universe ``one`` has these symbols from now on, and those who must hear of it do."""

    def define() -> None:
        server.known.define("one", *members)
        server.hub.on_catalogue_change()

    server.do(define)


def symbols_in(message: dict[str, Any]) -> list[str]:
    return [one["pattern"]["symbol"] for one in message["changes"]]


def test_only_what_the_filters_mean_is_told(server: Server) -> None:
    with (
        server.websocket("/ws/patterns?universe=one") as by_universe,
        server.websocket("/ws?topics=patterns&sectors=Health") as by_sector,
        server.events("?universe=one&sectors=Health") as by_both,
    ):
        for connection in (by_universe, by_sector):
            assert receive(connection)["type"] == "ready"
        assert next(by_both)["type"] == "ready"
        for position in (1, 2, 3):
            server.hear(detection_commit(position)[1])
        assert symbols_in(receive(by_universe)) == ["S1"]
        assert symbols_in(receive(by_sector)) == ["S2"]
        change(server, "S2", "S3")
        assert next(by_both)["reason"] == REASON


def test_those_whom_a_change_concerns_are_reset_and_told_by_the_new_meaning(server: Server) -> None:
    with (
        server.websocket("/ws/patterns?universe=one") as concerned,
        server.websocket("/ws/patterns?universe=one&symbols=S1") as narrower,
        server.websocket("/ws/patterns?sectors=Energy") as other,
        server.websocket("/ws/patterns?symbols=S1,S2") as by_symbols,
    ):
        for connection in (concerned, narrower, other, by_symbols):
            assert receive(connection)["type"] == "ready"
        change(server, "S1", "S2")
        reset = receive(concerned)
        assert (reset["type"], reset["topic"], reset["reason"]) == ("reset", "patterns", REASON)
        for position in (1, 2):
            server.hear(detection_commit(position)[1])
        for connection, symbols in (
            (concerned, {"S1", "S2"}),
            (by_symbols, {"S1", "S2"}),
            (narrower, {"S1"}),
            (other, {"S1"}),
        ):
            told: set[str] = set()
            while told != symbols:
                message = receive(connection)
                assert message["type"] == "changes"
                told |= set(symbols_in(message))
    assert server.count("reset_total") == 1


def test_a_sector_that_is_gone_means_nothing_and_may_come_back(server: Server) -> None:
    with server.websocket("/ws/patterns?sectors=Energy") as connection:
        receive(connection)
        for row in (symbol("S1", active=False), symbol("S1", sector="Energy")):

            def put(row: Any = row) -> None:
                server.known.put(row)
                server.hub.on_catalogue_change()

            server.do(put)
            assert receive(connection)["reason"] == REASON
        server.hear(detection_commit(1)[1])
        assert symbols_in(receive(connection)) == ["S1"]


def test_who_comes_back_resumes_only_if_the_filters_mean_the_same(server: Server) -> None:
    with server.websocket("/ws/patterns?universe=one") as connection:
        last = receive(connection)["id"]
    server.hear(detection_commit(1)[1])
    path = f"/ws/patterns?universe=one&last_event_id={last}"
    with server.websocket(path) as connection:
        assert receive(connection)["resumed"] is True
        assert symbols_in(receive(connection)) == ["S1"]
    change(server, "S2")
    with server.websocket(path) as connection:
        ready, reset = receive(connection), receive(connection)
        assert (ready["resumed"], reset["type"], reset["reason"]) == (False, "reset", REASON)
        assert reset["id"].rpartition(":")[2] != last.rpartition(":")[2]
    with server.websocket(f"/ws/patterns?last_event_id={last}") as connection:
        assert receive(connection)["resumed"] is False
    change(server, "S1")
    with server.websocket(path) as connection:
        assert receive(connection)["resumed"] is True


def test_who_has_left_meanwhile_is_not_taken_back(server: Server) -> None:
    subscribers = server.hub.subscribers
    with server.websocket("/ws/patterns?universe=one") as connection:
        receive(connection)
        [(subscription, [(_, [subscriber])])] = wait_until(subscribers.audience, "it has joined")
    wait_until(lambda: not subscribers.audience(), "it has left")
    server.do(subscribers.move, subscriber, subscription)
    assert subscribers.audience() == []
