"""``TICKVIEW_COMPATIBILITY=tickstock`` on real processes: every documented endpoint of the platform, field by field.

The catalogue comes from the platform's own tables (``tests/platform/schema.sql``).
"""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import httpx
import psycopg
import pytest

from tests import servers
from tests.integration.test_platform_universes import SCHEMA
from tests.processes.api_service import api, detection, post, scan_source
from tests.processes.roles import running_role, tickview_json, wait_until

NUMBER = (int, float)
FACTOR, DOLLARS, PERCENT, DURATION = r"-?\d+\.\dx", r"-?\$\d+\.\d\d", r"[+-]\d+\.\d%", r"\d+[smhd]"

Shape = Mapping[str, Any]
"""Member -> its type or types, a regular expression, a shape, or a list with the shape of each item."""


def assert_shape(value: Any, shape: Any, place: str = "answer") -> None:
    """Assert that a JSON value has the documented members with the documented types."""
    if isinstance(shape, Mapping):
        assert isinstance(value, dict), place
        for name, inner in shape.items():
            assert name in value, f"{place} has no member {name}"
            assert_shape(value[name], inner, f"{place}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list), place
        assert value, place
        for number, item in enumerate(value):
            assert_shape(item, shape[0], f"{place}[{number}]")
    elif isinstance(shape, str):
        assert isinstance(value, str), place
        assert re.fullmatch(shape, value), f"{place} is {value!r}, not {shape}"
    else:
        assert isinstance(value, shape), f"{place} is {value!r}"
        assert shape is bool or not isinstance(value, bool), f"{place} is {value!r}"


PATTERN: Shape = {
    "symbol": str,
    "pattern": str,
    "conf": NUMBER,
    "rs": FACTOR,
    "vol": FACTOR,
    "price": DOLLARS,
    "chg": PERCENT,
    "time": DURATION,
    "exp": DURATION,
    "source": str,
    "id": str,
    "type": str,
    "confidence": NUMBER,
    "change_percent": NUMBER,
    "timestamp": NUMBER,
}
PAGINATION: Shape = dict.fromkeys(("page", "per_page", "total", "pages"), int)
METRICS: Shape = {"cached_patterns": int, "cache_hit_ratio": NUMBER, "events_processed": int, "last_event_time": NUMBER}
SOURCE: Shape = {"api_response_time_ms": NUMBER, "source": str}
REDIS: Shape = {"avg_response_time_ms": NUMBER, "success_rate": NUMBER}
STATS: Shape = {**METRICS, "cache_hits": int, "cache_misses": int, "api_response_cache_size": int}
RUNTIME: Shape = {"runtime_seconds": NUMBER, "requests_processed": int, "average_response_time_ms": NUMBER}

DOCUMENTED: dict[str, Shape] = {
    "/api/patterns/scan": {"patterns": [PATTERN], "pagination": PAGINATION, "performance": SOURCE},
    "/api/patterns/stats": {"stats": STATS, "status": str},
    "/api/patterns/summary": {
        "total_patterns": int,
        "high_confidence_patterns": int,
        "pattern_types": {"distribution": {"Doji": int}, "top_patterns": [{"pattern": str, "count": int}]},
        "symbols": {"active_symbols": int, "top_symbols": [{"symbol": str, "count": int}]},
        "cache_performance": {"hit_ratio": NUMBER, "cached_patterns": int, "last_event_time": NUMBER},
    },
    "/api/patterns/health": {
        "status": str,
        "healthy": bool,
        "message": str,
        "metrics": {**METRICS, "response_time_ms": NUMBER},
    },
    "/api/symbols?market=stocks&search=&limit=2": {
        "symbols": [{"symbol": str, "name": str, "exchange": str, "market": str, "type": str, "active": bool}],
        "count": int,
        "filters": {"market": str, "search": str, "limit": int},
        "performance": SOURCE,
    },
    "/api/symbols/AAPL": {
        **dict.fromkeys(("symbol", "name", "exchange", "market", "locale", "currency_name", "currency_symbol"), str),
        **dict.fromkeys(("type", "cik", "composite_figi"), str),
        "active": bool,
        "market_cap": NUMBER,
        "weighted_shares_outstanding": NUMBER,
        "last_updated": r"\d{4}-\d\d-\d\dT.*",
    },
    "/api/users/universe": {
        "universes": [{"key": str, "description": str, "criteria": str, "count": int, "category": str}],
        "total_universes": int,
    },
    "/api/users/universe/sp_500": {
        "universe_key": "sp_500",
        "tickers": [str],
        "count": int,
        "metadata": {"count": int, "criteria": str, "description": str},
    },
    "/api/dashboard/stats": {
        "symbols_count": int,
        "active_symbols_count": int,
        "symbols_by_market": {"stocks": int, "crypto": int},
        "events_count": int,
        "latest_event_time": r"\d{4}-\d\d-\d\dT.*",
        "database_status": "connected",
    },
    "/api/pattern-discovery/health": {
        "status": str,
        "healthy": bool,
        "components": dict.fromkeys(("redis_manager", "pattern_cache", "tickstock_database", "event_subscriber"), str),
        "performance": {**RUNTIME, "redis_performance": REDIS},
    },
    "/api/pattern-discovery/performance": {
        "performance": {
            **RUNTIME,
            "targets": {"api_response_time_ms": NUMBER, "websocket_latency_ms": NUMBER, "cache_hit_ratio": NUMBER},
            "redis_performance": {**REDIS, "total_commands": int, "slow_commands": int},
            "pattern_cache_stats": STATS,
        },
        "status": str,
    },
}
"""Path -> the documented members of the answer."""


@pytest.fixture(scope="module")
def client(postgres_18_dsn: str) -> Iterator[httpx.Client]:
    with servers.valkey() as server, servers.new_database(postgres_18_dsn) as dsn, ExitStack() as stack:
        with psycopg.connect(dsn) as connection:
            connection.execute(SCHEMA)
        url, platform = server.connection_url, {"compatibility": "tickstock", "default_expiry": "3600"}
        for role in ("record", "project", "archive"):
            stack.enter_context(running_role(role, redis_url=url, postgres_dsn=dsn, **platform))
        client = stack.enter_context(api(url, postgres_dsn=dsn, wait_seconds=30, api_processes=1, **platform))
        synchronized = tickview_json("catalogue", "sync", redis_url=url, catalogue_dsn=dsn, wait_seconds=30)
        full = {"current_price": 150.25, "price_change": 2.3, "rs": 1.3, "vol": 2.1, "rsi": 65.5}
        bare = detection("NVDA", pattern="Doji", source="intraday", current_price=1.0, price_change=-1.0)
        del bare["data"]["expires_at"]
        header = post(client, [detection("AAPL", **full, confidence=0.85), detection("XOM", **full), bare])
        header["TickView-Min-Position"] += f",{synchronized['position']}"
        for path in ("/api/patterns/scan", "/api/symbols", "/api/users/universe"):
            assert client.get(path, headers=header).status_code == 200
        wait_until(lambda: scan_source(client) == "replica", "the replica answers")
        health = "/api/pattern-discovery/health"
        wait_until(lambda: client.get(health).status_code == 200, "every role has sent a heartbeat")
        yield client


def scan(client: httpx.Client, query: str) -> dict[str, Any]:
    response = client.get(f"/api/patterns/scan?{query}")
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def symbols_of(client: httpx.Client, query: str) -> set[str]:
    return {row["symbol"] for row in scan(client, query)["patterns"]}


@pytest.mark.parametrize("path", DOCUMENTED)
def test_an_answer_has_every_documented_member(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200, response.text
    assert_shape(response.json(), DOCUMENTED[path])
    assert client.head(path).status_code == 200
    if tag := response.headers.get("ETag"):
        assert client.get(path, headers={"If-None-Match": tag}).status_code in (200, 304)


ALL = {"AAPL", "XOM", "NVDA"}


@pytest.mark.parametrize(
    ("query", "symbols"),
    [
        ("", ALL),
        ("pattern_types=&rs_min=0&vol_min=0&rsi_range=0,100&timeframe=All&confidence_min=0.5&symbols=&sectors=", ALL),
        ("universe=sp500&confidence_min=0.7&limit=50&sector=all", {"AAPL", "NVDA"}),
        ("universe=all&confidence_min=0.7&limit=200&sector=all", ALL),
        ("universe=SP+500", {"AAPL", "NVDA"}),
        ("universe=market_leaders:top_50", {"AAPL"}),
        ("timeframe=Daily&limit=30&sort_by=detected_at&sort_order=desc", {"AAPL", "XOM"}),
        ("tier=intraday&limit=30&sort=timestamp_desc", {"NVDA"}),
        ("pattern_types=WeeklyBO", {"AAPL", "XOM"}),
        ("pattern_types=WeeklyBO&pattern_types=doji", ALL),
        ("symbols=aapl,nvda&page=0&per_page=1000&unknown=1", {"AAPL", "NVDA"}),
        ("confidence_min=0.82", {"AAPL"}),
        ("rs_min=1.2", {"AAPL", "XOM"}),
        ("rs_min=1.0", ALL),
        ("vol_min=1&rsi_range=50,50", {"NVDA"}),
        ("rsi_range=0,49.9", set()),
    ],
)
def test_a_scan_of_the_pages_selects_what_they_mean(client: httpx.Client, query: str, symbols: set[str]) -> None:
    assert symbols_of(client, query) == symbols
    assert symbols_of(client, query) == symbols, "the second answer may come from the cache"


def test_a_page_is_clamped_and_sorted_as_asked(client: httpx.Client) -> None:
    assert scan(client, "per_page=1000")["pagination"] == {"page": 1, "per_page": 100, "total": 3, "pages": 1}
    assert scan(client, "limit=2")["pagination"]["per_page"] == 2
    times = [row["timestamp"] for row in scan(client, "sort=timestamp_desc")["patterns"]]
    assert times == sorted(times, reverse=True)


def test_a_pattern_without_indicators_has_the_defaults_and_an_end(client: httpx.Client) -> None:
    [row] = scan(client, "symbols=NVDA")["patterns"]
    assert (row["rs"], row["vol"], row["rsi"]) == ("1.0x", "1.0x", 50.0)
    assert (row["type"], row["pattern"], row["source"], row["exp"]) == ("Doji", "Doji", "intraday", "59m")
    assert (row["expires_from"], row["expires_at"]) == ("default", row["detected_at"] + 3_600)


def test_an_error_has_the_documented_members(client: httpx.Client) -> None:
    response = client.get("/api/patterns/scan?symbols=a+b")
    assert response.status_code == 400
    zeros = dict.fromkeys(("page", "per_page", "total", "pages"), 0)
    assert_shape(response.json(), {"error": str, "message": str})
    assert (response.json()["patterns"], response.json()["pagination"]) == ([], zeros)
    missing = client.get("/api/symbols/NOWHERE")
    assert (missing.status_code, set(missing.json()) >= {"error", "message"}) == (404, True)


@pytest.mark.parametrize(
    "path",
    [
        "/api/symbols?limit=abc&market=&search=&_=17",
        "/api/symbols?limit=0",
        "/api/dashboard/stats?days=999",
        "/api/patterns/scan?fields=compact&rsi_range=,&sort_by=&page=x",
        "/api/patterns/scan?sort_by=confidence&sort_by=symbol&limit=1&limit=2",
        "/api/patterns/stats?refresh=true",
        "/api/backtests?status=&limit=5",
    ],
)
def test_no_number_and_no_unknown_parameter_is_an_error(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    "body", ["[]", '{"name": 7}', '{"name": "A", "filters": "x"}', '{"name": "A", "filters": {"symbols": "a b"}}']
)
def test_a_body_that_is_no_preset_is_refused(client: httpx.Client, body: str) -> None:
    response = client.post("/api/users/filter-presets", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422), response.text
    assert_shape(response.json(), {"error": str, "message": str})


def test_a_delisted_symbol_is_answered_and_not_listed(client: httpx.Client) -> None:
    assert client.get("/api/symbols/TWTR").json()["active"] is False
    assert "TWTR" not in {row["symbol"] for row in client.get("/api/symbols?limit=99999").json()["symbols"]}


def read(client: httpx.Client, path: str, written: httpx.Response) -> dict[str, Any]:
    """Read the lists once they include a write."""
    header = {"TickView-Min-Position": written.headers["TickView-Position"]}
    content: dict[str, Any] = client.get(path, headers=header).json()
    return content


def test_watchlists_belong_to_the_default_user_and_are_put_as_they_were_read(client: httpx.Client) -> None:
    path = "/api/users/watchlists"
    created = client.post(path, json={"name": "Tech", "symbols": ["AAPL"], "description": "ignored"})
    assert created.status_code == 201, created.text
    times = {"created_at": NUMBER, "updated_at": NUMBER}
    watchlist: Shape = {"id": str, "name": "Tech", "symbols": [str], **times}
    assert_shape(
        created.json(), {"watchlist": {**watchlist, "user_id": "default_user"}, "message": "watchlist created"}
    )
    listed = read(client, path, created)
    assert_shape(listed, {"watchlists": [watchlist], "user_id": "default_user", "count": int})
    changed = listed["watchlists"][0] | {"symbols": ["AAPL", "MSFT"]}
    put = client.put(f"{path}/{changed['id']}", json=changed)
    assert (put.status_code, put.json()["watchlist"]["symbols"]) == (200, ["AAPL", "MSFT"]), put.text
    assert client.get(path, headers={"X-User-ID": "alice"}).json()["count"] == 0


def test_presets_have_filters_and_are_put_as_they_were_read(client: httpx.Client) -> None:
    path = "/api/users/filter-presets"
    filters = {"rs_min": 1.2, "timeframe": "All", "pattern_types": ["Weekly_Breakout"], "limit": 500}
    created = client.post(path, json={"name": "Strong", "filters": filters, "is_default": True})
    assert created.status_code == 201, created.text
    listed = read(client, path, created)
    preset: Shape = {"id": str, "name": "Strong", "filters": {"rs_min": NUMBER}, "is_default": bool}
    times = {"created_at": NUMBER, "updated_at": NUMBER}
    assert_shape(listed, {"presets": [{**preset, **times}], "user_id": "default_user", "count": int})
    [row] = listed["presets"]
    assert row["filters"] == {"rs_min": 1.2, "pattern_types": ["Weekly_Breakout"], "per_page": 100}
    put = client.put(f"{path}/{row['id']}", json=row | {"filters": row["filters"] | {"rs_min": 9}})
    assert (put.status_code, put.json()["preset"]["filters"]["rs_min"], put.json()["preset"]["is_default"]) == (
        200,
        9,
        True,
    ), put.text
    position = {"TickView-Min-Position": put.headers["TickView-Position"]}
    assert client.get(f"/api/patterns/scan?preset={row['id']}", headers=position).json()["pagination"]["total"] == 0


def test_a_detection_without_an_end_expires_by_default(postgres_18_dsn: str) -> None:
    with (
        servers.valkey() as server,
        servers.new_database(postgres_18_dsn) as dsn,
        running_role("project", redis_url=server.connection_url, postgres_dsn=dsn, lease_seconds=1),
        api(server.connection_url, postgres_dsn=dsn, default_expiry="intraday=1.5,3600") as client,
    ):
        now = time.time()
        messages = [detection(name, source=tier, timestamp=now) for name, tier in (("A", "intraday"), ("B", "daily"))]
        for message in messages:
            del message["data"]["expires_at"]
        post(client, messages)
        wait_until(lambda: symbols_of(client, "") == {"B"}, "the pattern of A has expired")
        wait_until(
            lambda: client.get("/api/dashboard/stats").json()["statistics"]["today"]["patterns_expired"] == 1,
            "the expiry is an event",
        )
