"""Live push with filters by sector or universe, and their resets when the catalogue changes."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.catalogue import symbol_row
from tests.integration.push_server import (
    FILTERS_CHANGED,
    PushServer,
    detection_commit,
    receive,
    running_push_server,
    symbols_in,
)
from tests.processes.roles import wait_until


@pytest.fixture
def server() -> Iterator[PushServer]:
    with running_push_server() as server:
        yield server


def define_universe(server: PushServer, *members: str) -> None:
    """Set the symbols of the universe ``leaders`` and report the change of the catalogue to the hub."""

    def define() -> None:
        server.catalogue_fixture.put_universe("leaders", *members)
        server.hub.on_catalogue_change()

    server.run_in_loop(define)


def test_clients_receive_only_the_changes_of_symbols_that_their_filters_select(server: PushServer) -> None:
    with (
        server.websocket("/ws/patterns?universe=leaders") as by_universe,
        server.websocket("/ws?topics=patterns&sectors=Health") as by_sector,
        server.event_stream("?universe=leaders&sectors=Health") as by_both,
    ):
        for connection in (by_universe, by_sector):
            assert receive(connection)["type"] == "ready"
        assert next(by_both)["type"] == "ready"
        for position in (1, 2, 3):
            server.deliver(detection_commit(position)[1])
        assert symbols_in(receive(by_universe)) == ["S1"]
        assert symbols_in(receive(by_sector)) == ["S2"]
        define_universe(server, "S2", "S3")
        assert next(by_both)["reason"] == FILTERS_CHANGED


def test_a_changed_universe_resets_only_the_clients_whose_symbols_change(server: PushServer) -> None:
    with (
        server.websocket("/ws/patterns?universe=leaders") as affected,
        server.websocket("/ws/patterns?universe=leaders&symbols=S1") as restricted,
        server.websocket("/ws/patterns?sectors=Energy") as by_sector,
        server.websocket("/ws/patterns?symbols=S1,S2") as by_symbols,
    ):
        for connection in (affected, restricted, by_sector, by_symbols):
            assert receive(connection)["type"] == "ready"
        define_universe(server, "S1", "S2")
        reset = receive(affected)
        assert (reset["type"], reset["topic"], reset["reason"]) == ("reset", "patterns", FILTERS_CHANGED)
        for position in (1, 2):
            server.deliver(detection_commit(position)[1])
        for connection, symbols in (
            (affected, {"S1", "S2"}),
            (by_symbols, {"S1", "S2"}),
            (restricted, {"S1"}),
            (by_sector, {"S1"}),
        ):
            symbols_received: set[str] = set()
            while symbols_received != symbols:
                message = receive(connection)
                assert message["type"] == "changes"
                symbols_received |= set(symbols_in(message))
    assert server.metric("reset_total") == 1


def test_an_emptied_sector_selects_no_symbols_until_a_symbol_returns(server: PushServer) -> None:
    with server.websocket("/ws/patterns?sectors=Energy") as connection:
        receive(connection)
        for row in (symbol_row("S1", active=False), symbol_row("S1", sector="Energy")):

            def put_symbol(row: Any = row) -> None:
                server.catalogue_fixture.put_symbols(row)
                server.hub.on_catalogue_change()

            server.run_in_loop(put_symbol)
            assert receive(connection)["reason"] == FILTERS_CHANGED
        server.deliver(detection_commit(1)[1])
        assert symbols_in(receive(connection)) == ["S1"]


def test_a_client_resumes_only_if_its_filters_still_select_the_same_symbols(server: PushServer) -> None:
    with server.websocket("/ws/patterns?universe=leaders") as connection:
        last_id = receive(connection)["id"]
    server.deliver(detection_commit(1)[1])
    path = f"/ws/patterns?universe=leaders&last_event_id={last_id}"
    with server.websocket(path) as connection:
        assert receive(connection)["resumed"] is True
        assert symbols_in(receive(connection)) == ["S1"]
    define_universe(server, "S2")
    with server.websocket(path) as connection:
        ready, reset = receive(connection), receive(connection)
        assert (ready["resumed"], reset["type"], reset["reason"]) == (False, "reset", FILTERS_CHANGED)
        assert reset["id"].rpartition(":")[2] != last_id.rpartition(":")[2]
    with server.websocket(f"/ws/patterns?last_event_id={last_id}") as connection:
        assert receive(connection)["resumed"] is False
    define_universe(server, "S1")
    with server.websocket(path) as connection:
        assert receive(connection)["resumed"] is True


def test_a_subscriber_that_has_left_is_not_moved_to_a_new_subscription(server: PushServer) -> None:
    subscribers = server.hub.subscribers
    with server.websocket("/ws/patterns?universe=leaders") as connection:
        receive(connection)
        [(subscription, [(_, [subscriber])])] = wait_until(subscribers.audience, "the subscriber has joined")
    wait_until(lambda: not subscribers.audience(), "the subscriber has left")
    server.run_in_loop(subscribers.move, subscriber, subscription)
    assert subscribers.audience() == []
