"""Live push and people's lists: who asks by their watchlist or preset is told by what it is, and when it changes."""

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
from tests.integration.push_server import Server, detection_commit, receive, serving
from tests.processes.roles import wait_until

REASON = "the catalogue or a list has changed, and the filters may select other symbols now"
WATCHLIST, OTHER, PRESET = "a" * 32, "b" * 32, "c" * 32


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        server.workspaces.rows["alice"] = workspace(watchlist=["S1"], preset={"symbols": ["S1", "S2"], "per_page": 7})
        yield server


def workspace(*, watchlist: list[str] | None = None, preset: dict[str, Any] | None = None) -> WorkspaceRow:
    about: Any = {"name": "any", "created_at": 1.0, "updated_at": 1.0, "version": 1}
    return WorkspaceRow(
        "alice",
        {} if watchlist is None else {WATCHLIST: {"id": WATCHLIST, "symbols": watchlist, **about}},
        {} if preset is None else {PRESET: {"id": PRESET, "parameters": preset, **about}},
    )


def change(server: Server, after: WorkspaceRow | None, position: int = 2) -> None:
    """What alice has from now on, and those who must hear of it do."""
    if after is None:
        del server.workspaces.rows["alice"]
    else:
        server.workspaces.rows["alice"] = after
    tell(server, "alice", position)


def tell(server: Server, user: str, position: int = 2) -> None:
    """A commit to the workspace of a user."""
    changes = [RowChange(user, None, None)]
    server.hear(Commit(Build(1, 1), "users", CommitId(position), 1.0, changes, knows_old=False), "workspaces")


def as_alice(server: Server, query: str) -> AbstractContextManager[ClientConnection]:
    return server.websocket(f"/ws/patterns?{query}", additional_headers={"X-User-ID": "alice"})


def symbols_in(message: dict[str, Any]) -> list[str]:
    assert message["type"] == "changes", message
    return [one["pattern"]["symbol"] for one in message["changes"]]


def test_only_what_is_on_the_watchlist_is_told(server: Server) -> None:
    with (
        as_alice(server, f"watchlist={WATCHLIST}") as watching,
        as_alice(server, f"preset={PRESET}") as by_preset,
        as_alice(server, f"preset={PRESET}&symbols=S3") as otherwise,
        server.events(f"?watchlist={WATCHLIST}&universe=one", **{"X-User-ID": "alice"}) as events,
    ):
        for connection in (watching, by_preset, otherwise):
            assert receive(connection)["type"] == "ready"
        assert next(events)["type"] == "ready"
        for position in (1, 2, 3):
            server.hear(detection_commit(position)[1])
        assert symbols_in(receive(watching)) == ["S1"]
        assert symbols_in(next(events)) == ["S1"]
        assert symbols_in(receive(otherwise)) == ["S3"]
        told: list[str] = []
        while len(told) < 2:
            told += symbols_in(receive(by_preset))
        assert told == ["S1", "S2"]


def test_whoever_follows_a_list_is_reset_when_it_becomes_another(server: Server) -> None:
    with (
        as_alice(server, f"watchlist={WATCHLIST}") as watching,
        as_alice(server, f"preset={PRESET}") as by_preset,
        server.websocket("/ws/patterns?symbols=S1") as by_symbol,
    ):
        for connection in (watching, by_preset, by_symbol):
            assert receive(connection)["type"] == "ready"
        change(server, workspace(watchlist=["S2"], preset={"symbols": ["S1", "S2"], "per_page": 9}))
        reset = receive(watching)
        assert (reset["type"], reset["topic"], reset["reason"]) == ("reset", "patterns", REASON)
        server.hear(detection_commit(1)[1])
        server.hear(detection_commit(2)[1])
        assert symbols_in(receive(watching)) == ["S2"]
        # How many are on a page is nothing to a feed: the preset means what it did.
        assert symbols_in(receive(by_preset))[0] == "S1"
        assert symbols_in(receive(by_symbol)) == ["S1"]
        change(server, workspace(watchlist=["S2"], preset={"confidence_min": 0.9}), 3)
        while (message := receive(by_preset))["type"] != "reset":
            assert symbols_in(message) == ["S2"]
        server.hear(detection_commit(3, 0.85)[1])
        server.hear(detection_commit(4, 0.95)[1])
        assert symbols_in(receive(by_preset)) == ["S4"]
    assert server.count("reset_total") == 2


@pytest.mark.parametrize("after", [None, workspace()])
def test_a_list_that_is_gone_has_no_symbols_and_may_be_restored(server: Server, after: WorkspaceRow | None) -> None:
    with as_alice(server, f"watchlist={WATCHLIST}") as connection:
        assert receive(connection)["type"] == "ready"
        change(server, after)
        assert receive(connection)["reason"] == REASON
        server.hear(detection_commit(1)[1])
        change(server, workspace(watchlist=["S2"]), 3)
        assert receive(connection)["reason"] == REASON
        server.hear(detection_commit(2)[1])
        assert symbols_in(receive(connection)) == ["S2"]


def test_a_preset_may_name_a_watchlist_and_the_catalogue(server: Server) -> None:
    server.workspaces.rows["alice"] = workspace(watchlist=["S1", "S3"], preset={"watchlist": WATCHLIST})
    with as_alice(server, f"preset={PRESET}&fields=full") as connection:
        assert receive(connection)["type"] == "ready"
        server.hear(detection_commit(1)[1])
        assert receive(connection)["changes"][0]["pattern"]["relative_strength"] is None
        change(server, workspace(watchlist=["S1", "S3"], preset={"universe": ["one"]}))
        assert receive(connection)["type"] == "reset"

        def define() -> None:
            server.known.define("one", "S4")
            server.hub.on_catalogue_change()

        server.do(define)
        assert receive(connection)["type"] == "reset"
        server.hear(detection_commit(3)[1])
        server.hear(detection_commit(4)[1])
        assert symbols_in(receive(connection)) == ["S4"]


def test_who_comes_back_resumes_only_if_the_list_is_the_same(server: Server) -> None:
    with as_alice(server, f"watchlist={WATCHLIST}") as connection:
        last = receive(connection)["id"]
    server.hear(detection_commit(1)[1])
    with as_alice(server, f"watchlist={WATCHLIST}&last_event_id={last}") as connection:
        assert receive(connection)["resumed"] is True
        assert symbols_in(receive(connection)) == ["S1"]
    server.workspaces.rows["alice"] = workspace(watchlist=["S1", "S2"])
    with as_alice(server, f"watchlist={WATCHLIST}&last_event_id={last}") as connection:
        ready, reset = receive(connection), receive(connection)
        assert (ready["resumed"], reset["type"], reset["reason"]) == (False, "reset", REASON)


def test_only_those_who_are_concerned_are_read_and_again_once_the_store_is_there(server: Server) -> None:
    asked = server.workspaces.asked
    with as_alice(server, f"watchlist={WATCHLIST}") as connection:
        assert receive(connection)["type"] == "ready"
        # As it connected, and once more for what it may have missed while it did.
        wait_until(lambda: asked == [{"alice"}] * 2, "her lists were read")
        tell(server, "bob")
        server.workspaces.away = True
        change(server, workspace(watchlist=["S2"]), 3)
        wait_until(lambda: len(asked) == 3, "they could not be read")
        server.workspaces.away = False
        tell(server, "bob", 4)
        assert receive(connection)["reason"] == REASON
    assert asked == [{"alice"}] * 4


def test_a_store_that_hangs_keeps_nobody_from_being_told(server: Server) -> None:
    asked = server.workspaces.asked
    with (
        as_alice(server, f"watchlist={WATCHLIST}") as watching,
        server.websocket("/ws/patterns?symbols=S1") as other,
    ):
        for connection in (watching, other):
            assert receive(connection)["type"] == "ready"
        wait_until(lambda: len(asked) == 2, "her lists were read")
        server.workspaces.hangs = True
        change(server, workspace(watchlist=["S2"]))
        wait_until(lambda: len(asked) == 3, "they are being read")
        server.hear(detection_commit(1)[1])
        for connection in (watching, other):
            assert symbols_in(receive(connection)) == ["S1"]
        server.workspaces.hangs = False
        tell(server, "bob", 3)
        assert receive(watching)["reason"] == REASON


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
def test_the_lists_of_others_are_refused_as_if_there_were_none(
    server: Server, query: str, user: str, field: str
) -> None:
    headers = {"X-User-ID": user}
    answer = httpx.get(f"http://127.0.0.1:{server.port}/api/patterns/stream?{query}", headers=headers)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    with pytest.raises(InvalidStatus) as refused, server.websocket(f"/ws?{query}", additional_headers=headers):
        pass
    assert refused.value.response.status_code == 400


def test_a_list_is_for_patterns_and_needs_the_store(server: Server) -> None:
    headers = {"X-User-ID": "alice"}
    for path, status in ((f"/ws?topics=backtests&watchlist={WATCHLIST}", 400), (f"/ws?watchlist={WATCHLIST}", 503)):
        server.workspaces.away = status == 503
        with pytest.raises(InvalidStatus) as refused, server.websocket(path, additional_headers=headers):
            pass
        assert refused.value.response.status_code == status
