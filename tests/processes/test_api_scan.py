"""``GET /api/patterns/scan`` on a real service: filters, orders, pages, fields and refusals."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import servers
from tests.processes.api_service import detection, post, service

SYMBOLS = ("AAPL", "MSFT", "BRK.B", "X:BTCUSD", "^GSPC")
PATTERNS = ("Weekly_Breakout", "Bull_Flag", "Doji")
TIERS = ("daily", "intraday")


FIRST_DETECTED_AT = 1_757_001_600.0
"""Time of the detection number 0. Each detection follows one second after the previous detection."""


def all_detections() -> list[dict[str, Any]]:
    """Build the fields of sixty detections of all kinds. Every fourth detection has no indicators."""
    rows: list[dict[str, Any]] = []
    for number in range(60):
        row: dict[str, Any] = {
            "symbol": SYMBOLS[number % 5],
            "pattern": PATTERNS[number % 3],
            "confidence": number / 60,
            "source": TIERS[number % 2],
            "timestamp": FIRST_DETECTED_AT + number,
        }
        if number % 4:
            row |= {"rs": 1 + number % 7 / 10, "vol": 2 + number % 5 / 10, "rsi": float(number)}
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with servers.valkey() as server, service(server.connection_url) as client:
        messages = [detection(**{**row, "expires_at": None}) for row in all_detections()]
        header = post(client, messages)
        assert client.get("/api/patterns/scan", headers=header).status_code == 200
        yield client


def scan(client: httpx.Client, query: str) -> dict[str, Any]:
    response = client.get(f"/api/patterns/scan?fields=full&confidence_min=0&per_page=100&{query}")
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    assert content["pagination"]["total"] == len(content["patterns"])
    return content


def matching_numbers(client: httpx.Client, query: str) -> set[int]:
    """Scan the patterns. Return the numbers of the detections in the result."""
    return {round(row["detected_at"] - FIRST_DETECTED_AT) for row in scan(client, query)["patterns"]}


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("", lambda _: True),
        ("symbols=AAPL", lambda row: row["symbol"] == "AAPL"),
        ("symbols=aapl,brk.b", lambda row: row["symbol"] in ("AAPL", "BRK.B")),
        ("symbols=AAPL&symbols=%5EGSPC,X:BTCUSD", lambda row: row["symbol"] in ("AAPL", "^GSPC", "X:BTCUSD")),
        ("pattern_types=Doji", lambda row: row["pattern"] == "Doji"),
        ("pattern_types=Doji&pattern_types=Bull_Flag", lambda row: row["pattern"] in ("Doji", "Bull_Flag")),
        ("pattern_types=doji", lambda _: False),
        ("timeframe=Daily", lambda row: row["source"] == "daily"),
        ("rs_min=1.3", lambda row: row.get("rs", 0) >= 1.3),
        ("vol_min=2.2", lambda row: row.get("vol", 0) >= 2.2),
        ("rsi_range=30,40", lambda row: 30 <= row.get("rsi", 0) <= 40),
        (
            "rsi_range=0,45&symbols=MSFT&timeframe=intraday&rs_min=1.1",
            lambda row: (
                row.get("rsi", 99) <= 45
                and row["symbol"] == "MSFT"
                and row["source"] == "intraday"
                and row.get("rs", 0) >= 1.1
            ),
        ),
        ("symbols=NONE", lambda _: False),
        ("confidence_max=0.4", lambda row: row["confidence"] <= 0.4),
        ("relative_strength_max=1.2&rsi_range=0,45", lambda row: row.get("rs", 9) <= 1.2 and row.get("rsi", 99) <= 45),
    ],
)
def test_scans_return_the_patterns_that_match_the_filters(client: httpx.Client, query: str, matches: Any) -> None:
    expected = {number for number, row in enumerate(all_detections()) if matches(row)}
    assert matching_numbers(client, query) == expected


def test_an_empty_page_names_values_that_resemble_an_unknown_value(client: httpx.Client) -> None:
    assert scan(client, "pattern_types=doji&symbols=APPL,MSFT")["hint"] == (
        "at present no row has symbols=APPL; close values: AAPL; "
        "at present no row has pattern_types=doji; close values: Doji"
    )
    for query in ("symbols=AAPL", "symbols=AAPL,APPL", "symbols=AAPL&rs_min=99"):
        assert "hint" not in scan(client, query)


def test_scans_return_confidences_from_one_half_by_default(client: httpx.Client) -> None:
    content = client.get("/api/patterns/scan").json()
    assert content["pagination"] == {"page": 1, "per_page": 30, "total": 30, "pages": 1}
    assert min(row["conf"] for row in content["patterns"]) == 0.5


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("sort_by", "field"),
    [
        ("confidence", "confidence"),
        ("detected_at", "detected_at"),
        ("symbol", "symbol"),
        ("rs", "relative_strength"),
        ("volume", "relative_volume"),
        ("rsi", "rsi"),
    ],
)
def test_scans_are_sorted_by_the_field_and_then_by_id(
    client: httpx.Client, sort_by: str, field: str, order: str
) -> None:
    rows = scan(client, f"sort_by={sort_by}&sort_order={order}")["patterns"]
    lowest: Any = "" if field == "symbol" else float("-inf")
    keys = [(lowest if row[field] is None else row[field], row["id"]) for row in rows]
    assert len(keys) == 60
    assert keys == sorted(keys, reverse=order == "desc")


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort_by", ["confidence", "detected_at", "symbol", "rs", "volume"])
def test_pages_and_cursors_return_every_row_once_in_order(client: httpx.Client, sort_by: str, order: str) -> None:
    query = f"/api/patterns/scan?confidence_min=0&sort_by={sort_by}&sort_order={order}"
    expected = [row["id"] for row in client.get(f"{query}&per_page=100").json()["patterns"]]
    numbered: list[str] = []
    for page in range(1, 10):
        content = client.get(f"{query}&per_page=7&page={page}").json()
        assert content["pagination"] == {"page": page, "per_page": 7, "total": 60, "pages": 9}
        numbered += (row["id"] for row in content["patterns"])
    assert numbered == expected
    beyond = client.get(f"{query}&per_page=7&page=10").json()
    assert (beyond["patterns"], beyond["next"]) == ([], None)
    followed: list[str] = []
    content = client.get(f"{query}&per_page=7").json()
    while True:
        followed += (row["id"] for row in content["patterns"])
        if content["next"] is None:
            break
        content = client.get(f"{query}&per_page=7&cursor={content['next']}").json()
        assert content["pagination"] == {"page": None, "per_page": 7, "total": 60, "pages": 9}
    assert followed == expected


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ("colour=red", "colour", "known: pattern_types, symbols"),
        ("sectors=Energy", "sectors", "there is no such sector; known: none"),
        ("universe=all", "universe", "there is no such universe; known: none"),
        ("confidence_min=nan", "confidence_min", "should be a number"),
        ("confidence_min=inf", "confidence_min", "should be a number"),
        ("confidence_min=1e999", "confidence_min", "finite"),
        ("confidence_min=1.01", "confidence_min", "less than or equal to 1"),
        ("confidence_min=-0.1", "confidence_min", "greater than or equal to 0"),
        ("confidence_min=high", "confidence_min", "should be a number, and is 'high'"),
        ("confidence_min=0.5&confidence_min=0.6", "confidence_min", "is given 2 times"),
        ("confidence_min=", "confidence_min", "should be a number"),
        ("rs_min=-Infinity", "rs_min", "should be a number"),
        ("rs_min=1e999", "rs_min", "finite"),
        ("vol_min=1_000", "vol_min", "should be a number"),
        ("rsi_range=70,30", "rsi_range", "the lower bound followed by the higher bound"),
        ("rsi_range=abc", "rsi_range", "should be a number"),
        ("rsi_range=30", "rsi_range[1]", "required"),
        ("rsi_range=30,40,50", "rsi_range", "2 items"),
        ("rsi_range=nan,40", "rsi_range", "should be a number"),
        ("rsi_range=30&rsi_range=40", "rsi_range", "is given 2 times"),
        ("per_page=0", "per_page", "greater than or equal to 1"),
        ("per_page=101", "per_page", "less than or equal to 100"),
        ("per_page=ten", "per_page", "whole number"),
        ("per_page=1.5", "per_page", "whole number"),
        ("page=0", "page", "greater than or equal to 1"),
        ("page=-1", "page", "greater than or equal to 1"),
        ("page=1&page=2", "page", "is given 2 times"),
        ("page=99999999999999999999", "page", "less than or equal to"),
        ("sort_by=price", "sort_by", "'detected_at', 'rs', 'volume'"),
        ("sort_order=up", "sort_order", "'asc' or 'desc'"),
        ("fields=all", "fields[0]", "'compact' or 'full'"),
        ("symbols=", "symbols[0]", "should be a symbol"),
        ("symbols=AAPL,,MSFT", "symbols[1]", "should be a symbol"),
        ("symbols=AAPL%0D%0ASet-Cookie:%20a=b", "symbols[0]", "should be a symbol"),
        ("symbols=%E3%80%80", "symbols[0]", "should be a symbol"),
        ("symbols=" + ",".join(["A"] * 101), "symbols", "at most 100 items"),
        ("pattern_types=%FF", "pattern_types[0]", "printable"),
        ("pattern_types=a%00b", "pattern_types[0]", "printable"),
        ("cursor=abc", "cursor", "is not a valid cursor"),
        ("cursor=7", "cursor", "is not a valid cursor"),
        ("cursor=W10", "cursor", "is not a valid cursor"),
        ("cursor=%00", "cursor", "is not a valid cursor"),
    ],
)
def test_invalid_parameters_are_refused_by_name(client: httpx.Client, query: str, field: str, reason: str) -> None:
    refused = client.get(f"/api/patterns/scan?{query}")
    assert refused.status_code == 400, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert {"type", "title", "status", "detail", "errors"} == problem.keys()
    assert [error["field"] for error in problem["errors"]] == [field]
    assert reason in problem["detail"]
    assert "\r" not in problem["detail"]


def test_a_cursor_is_refused_with_a_page_and_in_another_order(client: httpx.Client) -> None:
    cursor = client.get("/api/patterns/scan?per_page=1").json()["next"]
    combined = client.get(f"/api/patterns/scan?page=1&cursor={cursor}")
    resorted = client.get(f"/api/patterns/scan?sort_by=symbol&cursor={cursor}")
    assert (combined.status_code, resorted.status_code) == (400, 400)
    assert "cannot be combined with page" in combined.json()["detail"]
    assert "belongs to sort_by=confidence and sort_order=desc" in resorted.json()["detail"]


def test_pattern_names_and_tiers_may_contain_non_ascii_characters(client: httpx.Client) -> None:
    header = post(client, [detection("AAPL", pattern="Évasé ↗", source="täglich", confidence=0.01)])
    response = client.get(
        "/api/patterns/scan",
        params={"pattern_types": "Évasé ↗", "timeframe": "täglich", "confidence_min": 0},
        headers=header,
    )
    [row] = response.json()["patterns"]
    pattern = client.get(f"/api/patterns/{row['id']}").json()["pattern"]
    assert row["pattern"] == "Évasé↗"
    assert (pattern["pattern_type"], pattern["tier"]) == ("Évasé ↗", "täglich")
    expired = {"event_type": "pattern_expired", "data": {"symbol": "AAPL", "pattern": "Évasé ↗"}}
    expired["data"]["timestamp"] = pattern["detected_at"]
    missing = client.get(f"/api/patterns/{row['id']}", headers=post(client, [expired]))
    assert missing.status_code == 404


def test_a_full_row_contains_the_compact_row(client: httpx.Client) -> None:
    def first_row(fields: str) -> dict[str, Any]:
        row: dict[str, Any] = client.get(f"/api/patterns/scan?{fields}").json()["patterns"][0]
        return row

    compact, full = first_row("fields=compact"), first_row("fields=full")
    assert compact == first_row("")
    assert compact.items() <= full.items()
    assert len(full) > len(compact) + 15
    assert full == first_row("fields=compact,full")
    assert {name: full[name] for name in ("pattern", "rs", "vol", "source")} == {
        "pattern": "Doji",
        "rs": f"{full['relative_strength']:.1f}x",
        "vol": f"{full['relative_volume']:.1f}x",
        "source": "intraday",
    }
    assert full["position"].startswith("market-")
    assert full["producer"] == "tests"
