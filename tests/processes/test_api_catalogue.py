"""The catalogue of the real service: symbols, universes, and the scan filters of replica, Redis and archive."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import orjson
import pytest
from websockets.sync.client import ClientConnection

from tests import servers
from tests.processes.api_service import api, detection, post, scan_source
from tests.processes.push_clients import receive, websocket
from tests.processes.roles import running_role, tickview_json, wait_until

SYMBOLS: list[dict[str, Any]] = [
    {"symbol": "AAPL", "name": "Apple Inc.", "market": "stocks", "sector": "Technology", "market_cap": 3e12},
    {"symbol": "MSFT", "name": "Microsoft", "market": "stocks", "sector": "Technology"},
    {"symbol": "XOM", "name": "Exxon Mobil", "market": "stocks", "sector": "Energy"},
    {"symbol": "BRK/B", "name": "Berkshire Hathaway", "market": "stocks", "sector": "Financials"},
    {"symbol": "X:BTCUSD", "name": "Bitcoin", "market": "crypto"},
]
UNIVERSES: list[dict[str, Any]] = [
    {"key": "big", "name": "Big companies", "symbols": ["AAPL", "XOM", "NOWHERE"]},
    {"key": "empty", "symbols": []},
    {"key": "many", "symbols": ["MSFT", *(f"S{number}" for number in range(3_000))]},
]


class Service(NamedTuple):
    """Two APIs on the same servers. One answers scans from its replica, the other from Redis."""

    redis_url: str
    postgres_dsn: str
    replica: httpx.Client
    """A client of the API with a replica."""
    redis: httpx.Client
    """A client of the API without a replica."""
    folder: Path
    """The folder of the catalogue files."""

    def sync(self, symbols: list[dict[str, Any]], universes: list[dict[str, Any]]) -> dict[str, str]:
        """Synchronize the catalogue. Return the header with which a read waits for the new catalogue."""
        files = {"symbols": symbols, "universes": universes}
        for name, rows in files.items():
            (self.folder / f"{name}.json").write_bytes(orjson.dumps({name: rows}))
        options = [word for name in files for word in (f"--{name}", str(self.folder / f"{name}.json"))]
        result = tickview_json("catalogue", "sync", *options, redis_url=self.redis_url, wait_seconds=30)
        return {"TickView-Min-Position": result["position"]}


@pytest.fixture(scope="module")
def service(postgres_18_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with servers.valkey() as server, servers.new_database(postgres_18_dsn) as dsn, ExitStack() as stack:
        url = server.connection_url
        for role in ("archive", "project"):
            stack.enter_context(running_role(role, redis_url=url, postgres_dsn=dsn, lease_seconds=1))
        replica = stack.enter_context(api(url, postgres_dsn=dsn, wait_seconds=30, api_processes=1))
        redis = stack.enter_context(api(url, postgres_dsn=dsn, wait_seconds=30, api_processes=1, replica_max_rows=0))
        service = Service(url, dsn, replica, redis, tmp_path_factory.mktemp("catalogue"))
        post(replica, [detection(row["symbol"], expires_at=None) for row in SYMBOLS])
        post(replica, [detection("AAPL", pattern="Doji", source="intraday")])
        header = service.sync(SYMBOLS, UNIVERSES)
        for client in (replica, redis):
            assert client.get("/api/symbols", headers=header).status_code == 200
            assert client.get("/api/users/universe", headers=header).status_code == 200
        wait_until(lambda: scan_source(replica) == "replica", "the replica answers")
        yield service


def receive_change(connection: ClientConnection) -> dict[str, Any]:
    """Receive the next message that is not a heartbeat."""
    while (message := receive(connection))["type"] == "heartbeat":
        pass
    return message


def test_symbols_are_listed_filtered_and_cached_by_etag(service: Service) -> None:
    response = service.replica.get("/api/symbols")
    assert response.json()["count"] == 5
    assert response.json()["symbols"][0] == {**dict.fromkeys(("exchange", "type", "industry")), **SYMBOLS[0]}
    assert "market-0=" in response.headers["TickView-Position"]
    again = service.replica.get("/api/symbols", headers={"If-None-Match": response.headers["ETag"]})
    assert again.status_code == 304

    def listed(query: str) -> list[str]:
        return [row["symbol"] for row in service.replica.get(f"/api/symbols?{query}").json()["symbols"]]

    assert listed("market=crypto") == ["X:BTCUSD"]
    assert listed("search=m") == ["MSFT", "XOM"]
    assert listed("search=app") == ["AAPL"]
    assert listed("limit=2") == ["AAPL", "BRK/B"]
    for query, reason in (
        ("market=metals", "names 'metals', and there is no such market; known: "),
        ("limit=5001", "less than or equal to 5000"),
        ("limit=0", "greater"),
        ("search=", "1 to 200 printable"),
    ):
        refused = service.replica.get(f"/api/symbols?{query}")
        assert refused.status_code == 400
        assert reason in refused.json()["detail"]


def test_a_symbol_is_described_with_its_pattern_counts(service: Service) -> None:
    for client in (service.replica, service.redis):
        answer = client.get("/api/symbols/aapl").json()
        assert (answer["symbol"]["name"], answer["symbol"]["active"]) == ("Apple Inc.", True)
        assert answer["symbol"]["position"].startswith("market-")
        assert answer["patterns"] == {
            "total": 2,
            "by_type": {"Weekly_Breakout": 1, "Doji": 1},
            "by_tier": {"intraday": 1, "daily": 1},
        }
        assert client.get("/api/symbols/BRK%2FB").json()["patterns"]["total"] == 1
        missing = client.get("/api/symbols/NONE")
        assert (missing.status_code, missing.json()["detail"]) == (404, "there is no symbol 'NONE' in the catalogue")


def test_universes_are_listed_and_described(service: Service) -> None:
    answer = service.replica.get("/api/users/universe").json()
    assert answer["count"] == 3
    texts = {"name": "Big companies", "description": None, "category": None, "criteria": None}
    assert answer["universes"][0] == {"key": "big", **texts, "symbol_count": 3}
    big = service.replica.get("/api/users/universe/big").json()
    assert (big["universe"]["symbols"], big["count"]) == (["AAPL", "XOM", "NOWHERE"], 3)
    assert service.replica.get("/api/users/universe/none").status_code == 404


def test_the_history_command_shows_the_events_of_a_universe(service: Service) -> None:
    settings = {"redis_url": service.redis_url, "postgres_dsn": service.postgres_dsn}
    event, *_ = tickview_json("history", "universe-big", **settings)["events"]
    assert (event["type"], event["source"], event["origin"]["via"]) == ("UniverseDefined", "catalogue", "catalogue")
    assert event["data"]["symbols"] == ["AAPL", "XOM", "NOWHERE"]


def test_the_dashboard_counts_symbols_by_market_and_sector(service: Service) -> None:
    assert service.replica.get("/api/dashboard/stats").json()["symbols"] == {
        "total": 5,
        "active": 5,
        "by_market": {"stocks": 4, "crypto": 1},
        "by_sector": {"Technology": 2, "Energy": 1, "Financials": 1},
    }


def test_the_statistics_count_patterns_by_sector(service: Service) -> None:
    counted = service.replica.get("/api/patterns/stats").json()["statistics"]
    assert list(counted["by_sector"].items()) == [("Technology", 3), ("Financials", 1), ("Energy", 1)]
    # Redis would walk all patterns for each sector.
    assert service.redis.get("/api/patterns/stats").json()["statistics"]["by_sector"] is None


@pytest.mark.parametrize(
    ("query", "symbols"),
    [
        ("sectors=Technology", {"AAPL", "MSFT"}),
        ("sectors=Technology,Energy", {"AAPL", "MSFT", "XOM"}),
        ("universe=big", {"AAPL", "XOM"}),
        ("universe=big&universe=many", {"AAPL", "XOM", "MSFT"}),
        ("universe=many", {"MSFT"}),
        ("universe=many&sectors=Energy", set()),
        ("universe=big&sectors=Technology", {"AAPL"}),
        ("universe=big&symbols=XOM,MSFT", {"XOM"}),
        ("universe=empty", set()),
        ("universe=many&timeframe=daily&sort_by=symbol", {"MSFT"}),
    ],
)
def test_replica_redis_and_archive_agree_on_scans_by_sector_and_universe(
    service: Service, query: str, symbols: set[str]
) -> None:
    moment = time.time()
    answers = [
        client.get(f"/api/patterns/scan?{query}{as_of}").json()
        for client, as_of in ((service.replica, ""), (service.redis, ""), (service.replica, f"&as_of={moment}"))
    ]
    assert [answer["performance"]["source"] for answer in answers] == ["replica", "redis", "archive"]
    for answer in answers:
        assert {row["symbol"] for row in answer["patterns"]} == symbols
        assert answer["pagination"]["total"] == len(answer["patterns"])


@pytest.mark.parametrize("path", ["/api/patterns/scan", "/api/patterns/stream"])
def test_unknown_sectors_and_universes_are_refused(service: Service, path: str) -> None:
    refused = service.replica.get(f"{path}?universe=none&sectors=Coal")
    assert refused.status_code == 400
    assert refused.json()["errors"] == [
        {
            "field": "sectors",
            "reason": "names 'Coal', and there is no such sector; known: Energy, Financials, Technology",
        },
        {"field": "universe", "reason": "names 'none', and there is no such universe; known: big, empty, many"},
    ]


def test_a_change_of_the_catalogue_reaches_scans_and_live_push(service: Service) -> None:
    def symbols_of(client: httpx.Client, header: dict[str, str]) -> set[str]:
        answer = client.get("/api/patterns/scan?universe=big", headers=header)
        return {row["symbol"] for row in answer.json()["patterns"]}

    assert symbols_of(service.replica, {}) == {"AAPL", "XOM"}
    with (
        websocket(service.replica, "/ws/patterns?universe=big") as big,
        websocket(service.replica, "/ws/patterns?universe=many") as many,
    ):
        ready = [receive_change(connection) for connection in (big, many)]
        assert [message["type"] for message in ready] == ["ready", "ready"]
        header = service.sync(
            [
                {**row, "sector": "Energy"} if row["symbol"] == "MSFT" else row
                for row in SYMBOLS
                if row["symbol"] != "XOM"
            ],
            [{**UNIVERSES[0], "symbols": ["AAPL", "MSFT"]}, *UNIVERSES[1:]],
        )
        reset = receive_change(big)
        assert (reset["type"], reset["topic"]) == ("reset", "patterns")
        assert "catalogue" in reset["reason"]
        for client in (service.replica, service.redis):
            assert symbols_of(client, header) == {"AAPL", "MSFT"}
        post(service.replica, [detection("MSFT", pattern="Hammer")])
        for connection, before in ((big, reset["id"]), (many, ready[1]["id"])):
            changes = receive_change(connection)
            assert changes["type"] == "changes"
            assert [change["pattern"]["symbol"] for change in changes["changes"]] == ["MSFT"]
            assert changes["id"] != before
    with websocket(service.replica, f"/ws/patterns?universe=big&last_event_id={ready[0]['id']}") as resumed:
        assert receive_change(resumed)["resumed"] is False
        assert receive_change(resumed)["type"] == "reset"
    with websocket(service.replica, f"/ws/patterns?universe=many&last_event_id={ready[1]['id']}") as resumed:
        assert receive_change(resumed)["resumed"] is True
        assert receive_change(resumed)["type"] == "changes"

    delisted = service.replica.get("/api/symbols/XOM", headers=header).json()["symbol"]
    assert (delisted["active"], delisted["name"]) == (False, "Exxon Mobil")
    assert "XOM" not in {row["symbol"] for row in service.replica.get("/api/symbols").json()["symbols"]}
    listed_again = service.sync(SYMBOLS, UNIVERSES)
    xom = service.replica.get("/api/symbols/XOM", headers=listed_again).json()["symbol"]
    assert xom["active"] is True


def test_symbols_and_tiers_that_differ_in_case_are_different(service: Service) -> None:
    """Queries ignore the case. They return all spellings, and say so."""
    odd = ["/ES", "M&M.NS", "币安人生USDT", "TPC", "TpC"]
    listed = service.sync([*SYMBOLS, *({"symbol": symbol, "name": f"Name of {symbol}"} for symbol in odd)], UNIVERSES)
    messages = [detection(symbol, pattern="Cup, Handle", source="1m") for symbol in odd]
    messages.append(detection("TpC", pattern="Cup, Handle", source="1M", timestamp=time.time() - 1))
    header = post(service.replica, messages)
    for client in (service.replica, service.redis):

        def scan(*parameters: tuple[str, str], client: httpx.Client = client) -> tuple[list[tuple[str, str]], str]:
            answer = client.get("/api/patterns/scan", params=parameters, headers=header).json()
            rows = sorted((row["symbol"], row["source"]) for row in answer["patterns"])
            return rows, answer.get("hint", "")

        assert scan(("symbols", "TpC"), ("sort_by", "symbol")) == (
            [("TPC", "1m"), ("TpC", "1M"), ("TpC", "1m")],
            "symbols=TPC stands for TPC and TpC: the case of letters differs",
        )
        assert scan(("symbols", "/es"), ("symbols", "币安人生usdt")) == ([("/ES", "1m"), ("币安人生USDT", "1m")], "")
        assert scan(("timeframe", "1M"), ("symbols", "tpc"))[1].endswith(
            "timeframe=1m stands for 1M and 1m: the case of letters differs"
        )
        assert len(scan(("pattern_types", "Cup, Handle"), ("pattern_types", "Doji"), ("symbols", "M&M.NS"))[0]) == 1
        rows = client.get("/api/read-models/patterns?symbol=tpc", headers=header).json()
        assert (rows["pagination"]["total"], "TPC and TpC" in rows["hint"]) == (3, True)

        def symbol(path: str, client: httpx.Client = client) -> httpx.Response:
            return client.get(f"/api/symbols/{path}", headers={**header, **listed})

        assert [symbol(path).json()["patterns"]["total"] for path in ("TPC", "TpC", "%2FES", "m%26m.ns")] == [
            1,
            2,
            1,
            1,
        ]
        refused = symbol("tpc")
        assert (refused.status_code, "TPC and TpC" in refused.json()["detail"]) == (409, True)
        row = client.get("/api/patterns/scan?symbols=/ES", headers=header).json()["patterns"][0]
        one = client.get("/api/patterns/" + quote(row["id"], safe=""), headers=header)
        assert one.json()["pattern"]["symbol"] == "/ES"
    with tickview_user_list(service.replica, ["/ES", "TpC"]) as (watchlist, position):
        header["TickView-Min-Position"] += f",{position}"
        answer = service.replica.get(f"/api/patterns/scan?watchlist={watchlist}", headers=header).json()
        assert sorted({row["symbol"] for row in answer["patterns"]}) == ["/ES", "TPC", "TpC"]


@contextmanager
def tickview_user_list(client: httpx.Client, symbols: list[str]) -> Iterator[tuple[str, str]]:
    """Create a watchlist, and delete it at the end. Yield its id, and the position at which it exists."""
    created = client.post("/api/users/watchlists", json={"name": "Odd", "symbols": symbols})
    assert created.json()["watchlist"]["symbols"] == symbols
    list_id = created.json()["watchlist"]["id"]
    yield list_id, created.headers["TickView-Position"]
    assert client.delete(f"/api/users/watchlists/{list_id}").status_code == 204
