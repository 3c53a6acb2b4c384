"""Watchlists and filter presets of the real API: changes, rules, users, concurrent changes, scans and live push."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests import servers
from tests.processes.api_service import detection, post, service
from tests.processes.push_clients import receive, websocket
from tests.processes.workspace_users import PRESETS, UNKNOWN_ID, WATCHLISTS, User


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with servers.valkey() as server, service(server.connection_url) as client:
        yield client


def test_a_watchlist_is_created_read_changed_and_deleted(client: httpx.Client) -> None:
    alice = User(client, "life")
    created = alice.request("POST", WATCHLISTS, 201, json={"name": " Tech ", "symbols": ["aapl", "BRK.B"]})
    watchlist = created.json()["watchlist"]
    assert (watchlist["name"], watchlist["symbols"], watchlist["version"]) == ("Tech", ["AAPL", "BRK.B"], 1)
    location = created.headers["Location"]
    assert (location, created.headers["ETag"]) == (f"{WATCHLISTS}/{watchlist['id']}", '"1"')

    read = alice.request("GET", location, 200)
    assert (read.json(), read.headers["ETag"]) == (created.json(), '"1"')
    assert read.headers["Cache-Control"] == "private, no-cache"
    assert alice.request("GET", WATCHLISTS, 200).json() == {"watchlists": [watchlist], "count": 1}
    assert alice.request("GET", location, 304, If_None_Match='"1"').content == b""

    changed = alice.request("PUT", location, 200, json={"name": "Technology", "symbols": ["MSFT"]}, If_Match='"1"')
    after = changed.json()["watchlist"]
    assert (after["name"], after["symbols"], changed.headers["ETag"]) == ("Technology", ["MSFT"], '"3"')
    assert (after["created_at"], after["id"]) == (watchlist["created_at"], watchlist["id"])
    assert alice.request("GET", location, 200).json() == changed.json()
    same = alice.request("PUT", location, 200, json={"name": "Technology", "symbols": ["msft"]})
    assert (same.json(), same.headers["TickView-Position"]) == (changed.json(), changed.headers["TickView-Position"])
    unconditional = alice.request(
        "PUT", location, 200, json={"name": "Technology", "symbols": ["MSFT"]}, If_None_Match="*"
    )
    assert unconditional.json() == changed.json(), "a change answers with the list and ignores If-None-Match"

    renamed = alice.request("PUT", location, 200, json={"name": "IT"}).json()["watchlist"]
    assert (renamed["name"], renamed["symbols"]) == ("IT", ["MSFT"]), "a change of the name does not change the symbols"
    filled = alice.request("PUT", location, 200, json={"symbols": ["MSFT", "AAPL"]}).json()["watchlist"]
    assert (filled["name"], filled["symbols"], filled["version"]) == ("IT", ["MSFT", "AAPL"], 5)
    assert alice.request("PUT", location, 200, json={"symbols": []}).json()["watchlist"]["symbols"] == []

    deleted = alice.request("DELETE", location, 204, If_Match='"6"')
    assert deleted.content == b""
    missing = alice.request("GET", location, 404).json()
    assert missing["detail"] == f"there is no watchlist '{watchlist['id']}' of this user"
    assert alice.request("GET", WATCHLISTS, 200).json() == {"watchlists": [], "count": 0}
    alice.request("PUT", location, 404, json={"name": "Technology", "symbols": []})
    alice.request("DELETE", location, 404)


def test_a_preset_is_created_read_changed_and_deleted(client: httpx.Client) -> None:
    alice = User(client, "preset")
    content = {
        "name": "Strong",
        "default": True,
        "parameters": {"symbols": "aapl,MSFT", "rsi_range": [30, 70], "confidence_min": "0.8", "sort_by": "rs"},
    }
    created = alice.request("POST", PRESETS, 201, json=content)
    preset = created.json()["preset"]
    assert preset["parameters"] == {
        "symbols": ["AAPL", "MSFT"],
        "rsi_range": [30.0, 70.0],
        "confidence_min": 0.8,
        "sort_by": "rs",
    }
    assert preset["default"] is True
    location = created.headers["Location"]
    assert alice.request("GET", location, 200).json() == created.json()
    again = {key: preset[key] for key in ("name", "parameters", "default")}
    assert alice.request("PUT", location, 200, json=again).json() == created.json(), (
        "the content of a response is a valid change"
    )

    other = alice.create_preset("Weak", default=True, confidence_min=0)
    presets = alice.request("GET", PRESETS, 200).json()
    assert presets["count"] == 2
    assert {preset["name"]: preset["default"] for preset in presets["presets"]} == {"Strong": False, "Weak": True}
    stale = alice.request("PUT", location, 412, json=again, If_Match=created.headers["ETag"])
    assert stale.headers["ETag"] == alice.request("GET", location, 200).headers["ETag"] == '"3"'
    alice.request("DELETE", f"{PRESETS}/{other}", 204)
    assert [preset["default"] for preset in alice.request("GET", PRESETS, 200).json()["presets"]] == [False]


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
        (PRESETS, {"name": "A", "parameters": {"preset": UNKNOWN_ID}}, 422, "parameters.preset"),
        (PRESETS, {"name": "A", "parameters": {"watchlist": UNKNOWN_ID}}, 422, "parameters.watchlist"),
        (PRESETS, {"name": "A", "parameters": {"rs_min": None}}, 422, "parameters.rs_min"),
    ],
)
def test_an_invalid_list_is_refused_with_the_field(
    client: httpx.Client, path: str, content: Any, status: int, field: str
) -> None:
    alice = User(client, "refused")
    refused = alice.request("POST", path, status, json=content)
    assert refused.headers["content-type"] == "application/problem+json"
    assert field in [error["field"] for error in refused.json()["errors"]]
    assert alice.request("GET", path, 200).json()["count"] == 0


def test_names_of_lists_of_one_kind_are_unique_without_regard_to_case(client: httpx.Client) -> None:
    alice = User(client, "names")
    alice.create_watchlist("Straße")
    other = alice.create_watchlist("Banks")
    taken = alice.request("POST", WATCHLISTS, 409, json={"name": " STRASSE"})
    assert taken.json()["type"] == "urn:tickview:problem:name-taken"
    alice.request("PUT", f"{WATCHLISTS}/{other}", 409, json={"name": "strasse"})
    alice.create_preset("Straße")


def test_a_body_that_is_too_large_or_too_deep_is_refused(client: httpx.Client) -> None:
    alice = User(client, "large")
    alice.request("POST", WATCHLISTS, 413, json={"name": "A", "symbols": ["X" * 30] * 10_000})
    deep = b'{"name": "A", "parameters": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    headers = {"X-User-ID": "large", "Content-Type": "application/json"}
    refused = client.post(PRESETS, content=deep, headers=headers)
    assert refused.status_code == 400
    assert "is not JSON" in refused.json()["detail"]
    assert client.post(WATCHLISTS, content=b"name=A", headers={"X-User-ID": "large"}).status_code == 415


@pytest.mark.parametrize("tag", ['"2"', 'W/"1"', "1", '"x"', "", '"2", W/"1"'])
def test_a_change_with_another_etag_is_refused_with_the_current_etag(client: httpx.Client, tag: str) -> None:
    alice = User(client, f"tags-{abs(hash(tag))}")
    location = f"{WATCHLISTS}/{alice.create_watchlist('Tech', 'AAPL')}"
    for refused in (
        alice.request("PUT", location, 412, json={"name": "Other"}, If_Match=tag),
        alice.request("DELETE", location, 412, If_Match=tag),
    ):
        assert refused.headers["ETag"] == '"1"'
        assert 'its ETag is "1"' in refused.json()["detail"]
    assert alice.request("GET", location, 200).json()["watchlist"]["symbols"] == ["AAPL"]
    alice.request("PUT", location, 200, json={"name": "Other"}, If_Match='"7", "1"')
    alice.request("DELETE", location, 204, If_Match="*")


def test_users_cannot_reach_the_lists_of_other_users(client: httpx.Client) -> None:
    alice, mallory = User(client, "alice"), User(client, "mallory")
    watchlist, preset = alice.create_watchlist("Tech", "AAPL"), alice.create_preset("Strong", confidence_min=0.9)
    for path, content in (
        (f"{WATCHLISTS}/{watchlist}", {"name": "Mine", "symbols": []}),
        (f"{PRESETS}/{preset}", {"name": "Mine", "parameters": {}}),
    ):
        mallory.request("GET", path, 404)
        mallory.request("PUT", path, 404, json=content)
        mallory.request("DELETE", path, 404)
    assert mallory.request("GET", WATCHLISTS, 200).json()["count"] == 0
    for name, list_id in (("watchlist", watchlist), ("preset", preset)):
        refused = mallory.request("GET", f"/api/patterns/scan?{name}={list_id}", 400).json()
        assert refused["errors"] == [{"field": name, "reason": f"is not the id of one of your {name}s: {list_id!r}"}]
    refused_preset = {"name": "Spy", "parameters": {"watchlist": watchlist}}
    mallory.request("POST", PRESETS, 422, json=refused_preset)
    alice.request("GET", f"{WATCHLISTS}/{watchlist}", 200)
    invalid_user = client.get(WATCHLISTS, headers={"X-User-ID": "alice bob"})
    assert invalid_user.json()["errors"][0]["field"] == "X-User-ID"


def test_a_scan_of_a_watchlist_returns_the_patterns_of_its_symbols(client: httpx.Client) -> None:
    market = post(client, [detection(symbol, confidence=0.8) for symbol in ("W1", "W2", "W3")])
    alice, bob = User(client, "scan"), User(client, "scan-other")
    watched, empty = alice.create_watchlist("Watched", "W1", "W3", "ABSENT"), alice.create_watchlist("Empty")
    positions = f"{market['TickView-Min-Position']},{alice.position}"
    response = alice.request(
        "GET", f"/api/patterns/scan?watchlist={watched}&sort_by=symbol", 200, TickView_Min_Position=positions
    )
    assert [row["symbol"] for row in response.json()["patterns"]] == ["W3", "W1"]
    assert response.headers["TickView-Position"].endswith(f",{alice.position}")
    assert response.headers["Cache-Control"] == "private, no-cache"
    assert alice.scan_symbols(f"watchlist={watched}&symbols=W1,W2") == ["W1"]
    assert alice.scan_symbols(f"watchlist={empty}") == []
    assert set(alice.scan_symbols(f"watchlist={watched}")) == {"W1", "W3"}
    alice.request("PUT", f"{WATCHLISTS}/{watched}", 200, json={"name": "Watched", "symbols": ["W2"]})
    assert alice.scan_symbols(f"watchlist={watched}") == ["W2"], "a scan uses the changed symbols"
    bob.request("GET", f"/api/patterns/scan?watchlist={watched}", 400)
    for invalid in ("x", "", f"{watched}&watchlist={empty}"):
        alice.request("GET", f"/api/patterns/scan?watchlist={invalid}", 400)


def test_a_scan_with_a_preset_uses_its_parameters(client: httpx.Client) -> None:
    market = post(client, [detection(f"P{number}", confidence=number / 10) for number in range(1, 10)])
    alice = User(client, "scan-preset")
    watchlist = alice.create_watchlist("Watched", "P2", "P6", "P8")
    preset = alice.create_preset("Mine", watchlist=watchlist, confidence_min=0.1, sort_by="symbol", sort_order="asc")
    alice.position += f",{market['TickView-Min-Position']}"
    assert alice.scan_symbols(f"preset={preset}") == ["P2", "P6", "P8"]
    assert alice.scan_symbols(f"preset={preset}&confidence_min=0.5&sort_order=desc") == ["P8", "P6"]
    first_page = alice.request("GET", f"/api/patterns/scan?preset={preset}&per_page=2", 200).json()
    assert alice.scan_symbols(f"preset={preset}&per_page=2&cursor={first_page['next']}") == ["P8"]
    refused = alice.request("GET", f"/api/patterns/scan?preset={preset}&confidence_min=7&preset={preset}", 400).json()
    assert [error["field"] for error in refused["errors"]] == ["confidence_min", "preset"]
    alice.request("DELETE", f"{WATCHLISTS}/{watchlist}", 204)
    refused = alice.request("GET", f"/api/patterns/scan?preset={preset}", 400).json()
    assert [error["field"] for error in refused["errors"]] == ["watchlist"]


def retry_conflicts(send: Callable[[], httpx.Response]) -> httpx.Response:
    """Send a request again as long as the service answers 503 because of concurrent changes."""
    while True:
        response = send()
        if response.status_code != 503:
            return response
        assert "at the same time" in response.json()["detail"]


def test_concurrent_changes_of_different_lists_all_succeed(client: httpx.Client) -> None:
    alice = User(client, "together")
    ids = [alice.create_watchlist(f"List {number}") for number in range(3)]
    headers = {"X-User-ID": "together"}

    def change(list_id: str, number: int) -> None:
        tag = '"1"'
        for step in range(15):
            content = {"name": f"List {number}", "symbols": [f"S{step}"]}
            response = retry_conflicts(
                lambda content=content, tag=tag: client.put(
                    f"{WATCHLISTS}/{list_id}", json=content, headers={**headers, "If-Match": tag}
                )
            )
            assert response.status_code == 200, response.text
            tag = response.headers["ETag"]

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(change, ids, range(3)))
    alice.request("DELETE", f"{WATCHLISTS}/{ids.pop()}", 204)
    watchlists = alice.request("GET", WATCHLISTS, 200).json()["watchlists"]
    assert [(watchlist["id"], watchlist["symbols"], watchlist["version"]) for watchlist in watchlists] == [
        (list_id, ["S14"], 16) for list_id in ids
    ]


def test_one_of_concurrent_changes_with_the_same_etag_succeeds(client: httpx.Client) -> None:
    alice = User(client, "rivals")
    location = f"{WATCHLISTS}/{alice.create_watchlist('Contested')}"
    headers = {"X-User-ID": "rivals", "If-Match": '"1"'}

    def change(number: int) -> httpx.Response:
        content = {"name": "Contested", "symbols": [f"S{number}"]}
        return retry_conflicts(lambda: client.put(location, json=content, headers=headers))

    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(change, range(8)))
    assert sorted(response.status_code for response in responses) == [200] + [412] * 7
    [success] = [response for response in responses if response.status_code == 200]
    assert {response.headers["ETag"] for response in responses} == {'"2"'}
    alice.position = success.headers["TickView-Position"]
    assert alice.request("GET", location, 200).json() == success.json()


def test_one_of_concurrently_created_lists_with_the_same_name_succeeds(client: httpx.Client) -> None:
    headers = {"X-User-ID": "names-together"}

    def create(_: int) -> int:
        return retry_conflicts(lambda: client.post(WATCHLISTS, json={"name": "Tech"}, headers=headers)).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(8))) == [201] + [409] * 7


def test_live_push_of_a_watchlist_follows_changes_of_its_symbols(client: httpx.Client) -> None:
    follower = User(client, "follower")
    tech = follower.create_watchlist("Tech", "ONE")
    headers = {"X-User-ID": "follower", "TickView-Min-Position": follower.position}
    with websocket(client, f"/ws/patterns?watchlist={tech}", additional_headers=headers) as connection:
        ready = receive(connection)
        assert (ready["type"], ready["resumed"]) == ("ready", False)
        market = post(client, [detection("TWO"), detection("ONE")])
        assert [change["pattern"]["symbol"] for change in receive(connection)["changes"]] == ["ONE"]
        follower.request("PUT", f"{WATCHLISTS}/{tech}", 200, json={"symbols": ["TWO", "THREE"]})
        assert receive(connection)["type"] == "reset"
        follower.position += f",{market['TickView-Min-Position']}"
        assert follower.scan_symbols(f"watchlist={tech}") == ["TWO"]
        post(client, [detection("ONE"), detection("THREE")])
        assert [change["pattern"]["symbol"] for change in receive(connection)["changes"]] == ["THREE"]
    User(client, "stranger").request("GET", f"/api/patterns/stream?watchlist={tech}", 400)
