"""Live push with filters by watchlist or filter preset, and their resets when these lists change."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from projections.versions import Build
from projections.workspaces import WorkspaceRow
from readapi.ports.commits import Commit, CommitId, RowChange
from tests.integration.push_server import (
    FILTERS_CHANGED,
    PushServer,
    detection_commit,
    receive,
    running_push_server,
    symbols_in,
)
from tests.plain_http import PLAIN_HTTP
from tests.processes.roles import wait_until

WATCHLIST, OTHER, PRESET = "a" * 32, "b" * 32, "c" * 32


@pytest.fixture
def server() -> Iterator[PushServer]:
    with running_push_server() as server:
        server.workspaces.rows["alice"] = workspace(watchlist=["S1"], preset={"symbols": ["S1", "S2"], "per_page": 7})
        yield server


def workspace(*, watchlist: list[str] | None = None, preset: dict[str, Any] | None = None) -> WorkspaceRow:
    common_fields: Any = {"name": "any", "created_at": 1.0, "updated_at": 1.0, "version": 1}
    return WorkspaceRow(
        "alice",
        {} if watchlist is None else {WATCHLIST: {"id": WATCHLIST, "symbols": watchlist, **common_fields}},
        {} if preset is None else {PRESET: {"id": PRESET, "parameters": preset, **common_fields}},
    )


def set_workspace(server: PushServer, after: WorkspaceRow | None, position: int = 2) -> None:
    """Set the workspace of alice and deliver the commit of the change."""
    if after is None:
        del server.workspaces.rows["alice"]
    else:
        server.workspaces.rows["alice"] = after
    deliver_workspace_commit(server, "alice", position)


def deliver_workspace_commit(server: PushServer, user: str, position: int = 2) -> None:
    """Deliver a commit to the workspace of a user."""
    changes = [RowChange(user, None, None)]
    server.deliver(Commit(Build(1, 1), "users", CommitId(position), 1.0, changes, knows_old=False), "workspaces")


def as_alice(server: PushServer, query: str) -> AbstractContextManager[ClientConnection]:
    return server.websocket(f"/ws/patterns?{query}", additional_headers={"X-User-ID": "alice"})


def test_clients_receive_only_the_changes_of_symbols_on_their_lists(server: PushServer) -> None:
    with (
        as_alice(server, f"watchlist={WATCHLIST}") as by_watchlist,
        as_alice(server, f"preset={PRESET}") as by_preset,
        as_alice(server, f"preset={PRESET}&symbols=S3") as by_preset_and_symbol,
        server.event_stream(f"?watchlist={WATCHLIST}&universe=leaders", **{"X-User-ID": "alice"}) as events,
    ):
        for connection in (by_watchlist, by_preset, by_preset_and_symbol):
            assert receive(connection)["type"] == "ready"
        assert next(events)["type"] == "ready"
        for position in (1, 2, 3):
            server.deliver(detection_commit(position)[1])
        assert symbols_in(receive(by_watchlist)) == ["S1"]
        assert symbols_in(next(events)) == ["S1"]
        assert symbols_in(receive(by_preset_and_symbol)) == ["S3"]
        symbols: list[str] = []
        while len(symbols) < 2:
            symbols += symbols_in(receive(by_preset))
        assert symbols == ["S1", "S2"]


def test_a_changed_list_resets_the_clients_that_filter_by_this_list(server: PushServer) -> None:
    with (
        as_alice(server, f"watchlist={WATCHLIST}") as by_watchlist,
        as_alice(server, f"preset={PRESET}") as by_preset,
        server.websocket("/ws/patterns?symbols=S1") as by_symbol,
    ):
        for connection in (by_watchlist, by_preset, by_symbol):
            assert receive(connection)["type"] == "ready"
        set_workspace(server, workspace(watchlist=["S2"], preset={"symbols": ["S1", "S2"], "per_page": 9}))
        reset = receive(by_watchlist)
        assert (reset["type"], reset["topic"], reset["reason"]) == ("reset", "patterns", FILTERS_CHANGED)
        server.deliver(detection_commit(1)[1])
        server.deliver(detection_commit(2)[1])
        assert symbols_in(receive(by_watchlist)) == ["S2"]
        # A feed has no pages: a preset with another page size still selects the same patterns.
        assert symbols_in(receive(by_preset))[0] == "S1"
        assert symbols_in(receive(by_symbol)) == ["S1"]
        set_workspace(server, workspace(watchlist=["S2"], preset={"confidence_min": 0.9}), 3)
        while (message := receive(by_preset))["type"] != "reset":
            assert symbols_in(message) == ["S2"]
        server.deliver(detection_commit(3, 0.85)[1])
        server.deliver(detection_commit(4, 0.95)[1])
        assert symbols_in(receive(by_preset)) == ["S4"]
    assert server.metric("reset_total") == 2


@pytest.mark.parametrize("after", [None, workspace()], ids=["workspace-deleted", "watchlist-deleted"])
def test_a_deleted_watchlist_selects_no_symbols_until_it_is_restored(
    server: PushServer, after: WorkspaceRow | None
) -> None:
    with as_alice(server, f"watchlist={WATCHLIST}") as connection:
        assert receive(connection)["type"] == "ready"
        set_workspace(server, after)
        assert receive(connection)["reason"] == FILTERS_CHANGED
        server.deliver(detection_commit(1)[1])
        set_workspace(server, workspace(watchlist=["S2"]), 3)
        assert receive(connection)["reason"] == FILTERS_CHANGED
        server.deliver(detection_commit(2)[1])
        assert symbols_in(receive(connection)) == ["S2"]


def test_a_preset_may_filter_by_a_watchlist_or_a_universe(server: PushServer) -> None:
    server.workspaces.rows["alice"] = workspace(watchlist=["S1", "S3"], preset={"watchlist": WATCHLIST})
    with as_alice(server, f"preset={PRESET}&fields=full") as connection:
        assert receive(connection)["type"] == "ready"
        server.deliver(detection_commit(1)[1])
        assert receive(connection)["changes"][0]["pattern"]["relative_strength"] is None
        set_workspace(server, workspace(watchlist=["S1", "S3"], preset={"universe": ["leaders"]}))
        assert receive(connection)["type"] == "reset"

        def define() -> None:
            server.catalogue_fixture.put_universe("leaders", "S4")
            server.hub.on_catalogue_change()

        server.run_in_loop(define)
        assert receive(connection)["type"] == "reset"
        server.deliver(detection_commit(3)[1])
        server.deliver(detection_commit(4)[1])
        assert symbols_in(receive(connection)) == ["S4"]


def test_a_preset_applies_to_the_patterns_among_several_topics(server: PushServer) -> None:
    path = f"/ws?topics=patterns,symbols&preset={PRESET}&fields=symbol"
    with server.websocket(path, additional_headers={"X-User-ID": "alice"}) as connection:
        assert receive(connection)["type"] == "ready"
        server.deliver(detection_commit(2)[1])
        server.deliver(detection_commit(3)[1])
        assert receive(connection)["changes"] == [{"op": "set", "pattern": {"symbol": "S2"}}]
        set_workspace(server, workspace(preset={"symbols": ["S4"], "fields": ["full"]}))
        reset = receive(connection)
        assert (reset["topic"], reset["reason"]) == ("patterns", FILTERS_CHANGED)
        server.deliver(detection_commit(4)[1])
        assert receive(connection)["changes"] == [{"op": "set", "pattern": {"symbol": "S4"}}]


def test_a_client_resumes_only_if_its_watchlist_has_the_same_symbols(server: PushServer) -> None:
    with as_alice(server, f"watchlist={WATCHLIST}") as connection:
        last_id = receive(connection)["id"]
    server.deliver(detection_commit(1)[1])
    with as_alice(server, f"watchlist={WATCHLIST}&last_event_id={last_id}") as connection:
        assert receive(connection)["resumed"] is True
        assert symbols_in(receive(connection)) == ["S1"]
    server.workspaces.rows["alice"] = workspace(watchlist=["S1", "S2"])
    with as_alice(server, f"watchlist={WATCHLIST}&last_event_id={last_id}") as connection:
        ready, reset = receive(connection), receive(connection)
        assert (ready["resumed"], reset["type"], reset["reason"]) == (False, "reset", FILTERS_CHANGED)


def test_only_affected_workspaces_are_read_and_failed_reads_are_repeated(server: PushServer) -> None:
    reads = server.workspaces.reads
    with as_alice(server, f"watchlist={WATCHLIST}") as connection:
        assert receive(connection)["type"] == "ready"
        # One read when the client connects, and a second read for changes during the first.
        wait_until(lambda: reads == [{"alice"}] * 2, "the lists of alice were read")
        deliver_workspace_commit(server, "bob")
        server.workspaces.unavailable = True
        set_workspace(server, workspace(watchlist=["S2"]), 3)
        wait_until(lambda: len(reads) == 3, "the lists of alice could not be read")
        server.workspaces.unavailable = False
        deliver_workspace_commit(server, "bob", 4)
        assert receive(connection)["reason"] == FILTERS_CHANGED
    assert reads == [{"alice"}] * 4


def test_a_hanging_store_does_not_delay_changes_of_patterns(server: PushServer) -> None:
    reads = server.workspaces.reads
    with (
        as_alice(server, f"watchlist={WATCHLIST}") as by_watchlist,
        server.websocket("/ws/patterns?symbols=S1") as other,
    ):
        for connection in (by_watchlist, other):
            assert receive(connection)["type"] == "ready"
        wait_until(lambda: len(reads) == 2, "the lists of alice were read")
        server.workspaces.hanging = True
        set_workspace(server, workspace(watchlist=["S2"]))
        wait_until(lambda: len(reads) == 3, "a read of the lists of alice hangs")
        server.deliver(detection_commit(1)[1])
        for connection in (by_watchlist, other):
            assert symbols_in(receive(connection)) == ["S1"]
        server.workspaces.hanging = False
        deliver_workspace_commit(server, "bob", 3)
        assert receive(by_watchlist)["reason"] == FILTERS_CHANGED


@pytest.mark.parametrize(
    ("query", "user", "field"),
    [
        (f"watchlist={OTHER}", "alice", "watchlist"),
        (f"watchlist={WATCHLIST}", "bob", "watchlist"),
        (f"preset={PRESET}", "bob", "preset"),
        ("watchlist=1", "alice", "watchlist"),
        (f"preset={PRESET}&preset={PRESET}", "alice", "preset"),
    ],
)
def test_lists_of_another_user_and_unknown_lists_are_refused_alike(
    server: PushServer, query: str, user: str, field: str
) -> None:
    headers = {"X-User-ID": user}
    response = httpx.get(
        f"http://127.0.0.1:{server.port}/api/patterns/stream?{query}", headers=headers, verify=PLAIN_HTTP
    )
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]
    with pytest.raises(InvalidStatus) as refused, server.websocket(f"/ws?{query}", additional_headers=headers):
        pass
    assert refused.value.response.status_code == 400


def test_a_list_is_refused_for_other_topics_and_without_the_store(server: PushServer) -> None:
    headers = {"X-User-ID": "alice"}
    for path, status in ((f"/ws?topics=backtests&watchlist={WATCHLIST}", 400), (f"/ws?watchlist={WATCHLIST}", 503)):
        server.workspaces.unavailable = status == 503
        with pytest.raises(InvalidStatus) as refused, server.websocket(path, additional_headers=headers):
            pass
        assert refused.value.response.status_code == status
