"""``tickview users forget`` on the running service: the lists of the user are gone, and everything else goes on."""

from typing import Any

from projections.workspaces import Workspaces
from tests.processes.api_service import read_model_state
from tests.processes.archiving_service import archiving_service, audit_events, wait_until_archived
from tests.processes.roles import tickview, tickview_json, wait_until
from tests.processes.workspace_users import PRESETS, WATCHLISTS, User


def test_an_operator_forgets_a_user(redis_url: str, database_url: str) -> None:
    def command(*arguments: str) -> Any:
        return tickview_json(*arguments, redis_url=redis_url, postgres_dsn=database_url)

    with archiving_service(redis_url, database_url) as client:
        alice, bob = User(client, "alice"), User(client, "bob")
        list_id = alice.create_watchlist("Retirement", "AAPL")
        alice.create_preset("Strong", confidence_min=0.9)
        bob_list = bob.create_watchlist("Banks", "JPM")
        assert alice.request("GET", f"{WATCHLISTS}/{list_id}", 200).json()["watchlist"]["symbols"] == ["AAPL"]
        wait_until_archived(client)
        [created, *_] = audit_events(client, "streams/user-alice")
        assert (created["data"]["name"], created["source"], created["forgotten"]) == ("Retirement", "alice", False)

        settings = {"redis_url": redis_url, "postgres_dsn": database_url}
        refused = tickview("users", "forget", "alice", redis_url=redis_url)
        assert (refused.returncode, b"TICKVIEW_POSTGRES_DSN" in refused.stderr) == (1, True)
        declined = tickview("users", "forget", "alice", stdin=b"n\n", **settings)
        assert (declined.returncode, b"permanently" in declined.stderr) == (1, True)
        assert alice.request("GET", WATCHLISTS, 200).json()["count"] == 1

        outcome = command("users", "forget", "alice", "--yes")
        assert outcome == {
            "user": "alice",
            "position": 4,
            "generation": 1,
            "encrypted_events": 2,
            "plain_events": 0,
            "is_folded": True,
        }
        for path in (WATCHLISTS, PRESETS):
            assert alice.request("GET", path, 200).json()["count"] == 0
        alice.request("GET", f"{WATCHLISTS}/{list_id}", 404)
        assert bob.request("GET", f"{WATCHLISTS}/{bob_list}", 200).json()["watchlist"]["name"] == "Banks"

        history = audit_events(client, "streams/user-alice")
        assert [(event["type"], event["data"], event["forgotten"]) for event in history[:2]] == [
            ("WatchlistCreated", None, True),
            ("PresetCreated", None, True),
        ]
        assert (history[2]["type"], history[2]["data"]["generation"]) == ("UserForgotten", 1)
        assert history[0]["hash"] == created["hash"]
        table = tickview("history", "user-alice", **settings).stdout.decode()
        assert table.count("[forgotten]") == 2
        assert "Retirement" not in table

        alice.create_watchlist("Fresh start")
        assert client.post("/api/projections/workspaces/replay").status_code == 202
        rebuilt = f"{Workspaces.version}.2"
        wait_until(lambda: read_model_state(client, "workspaces")["live"] == rebuilt, "the new build is live")
        [watchlist] = alice.request("GET", WATCHLISTS, 200).json()["watchlists"]
        assert watchlist["name"] == "Fresh start"
        assert client.get("/api/projections/workspaces/parked").json()["parked"] == []
        wait_until_archived(client)
        assert command("audit", "verify")["ok"] is True
        table = tickview("users", "forget", "alice", "--yes", **settings).stdout.decode()
        assert " ".join(table.split()[-5:]) == "alice 3 0 2 6"
