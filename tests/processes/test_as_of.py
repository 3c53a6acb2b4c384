"""Queries with ``as_of=…`` on real processes: past results, pages, positions, refusals, and outages."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import pytest

from projections.patterns import ActivePatterns
from readapi.http.read_model import parse_positions
from tests import servers
from tests.processes.api_service import api, detection, post
from tests.processes.archiving_service import archiving_service, backtest_progress
from tests.processes.roles import wait_until

SCAN = "/api/patterns/scan"

BRIEF_SECONDS = 3.0
"""Seconds for which the pattern of TSLA is active."""


class Observation(NamedTuple):
    """The results of all queries at a moment."""

    results: dict[str, Any]
    moment: float


class Scenario(NamedTuple):
    """A service after a few announcements, two observations, and a header with the positions of all announcements."""

    client: httpx.Client
    first: Observation
    second: Observation
    header: dict[str, str]
    start: float


QUERIES = (
    "fields=full",
    "fields=full&per_page=1",
    "sort_by=symbol&sort_order=asc",
    "sort_by=rs&per_page=2",
    "symbols=AAPL,MSFT&rs_min=1.1",
    "confidence_min=0&timeframe=daily&per_page=2&page=2",
)


def scan_result(client: httpx.Client, query: str, header: dict[str, str]) -> dict[str, Any]:
    """Return the parts of a response that a later scan as of the same moment must repeat."""
    response = client.get(f"{SCAN}?{query}", headers=header)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return {name: content[name] for name in ("patterns", "pagination", "next")}


def without_durations(result: dict[str, Any]) -> dict[str, Any]:
    """Remove the age and the remaining time of each row, because both change with the clock."""
    rows = [{name: value for name, value in row.items() if name not in ("time", "exp")} for row in result["patterns"]]
    return {**result, "patterns": rows}


def observe(client: httpx.Client, header: dict[str, str]) -> Observation:
    return Observation({query: scan_result(client, query, header) for query in QUERIES}, time.time())


@pytest.fixture(scope="module")
def scenario(postgres_18_dsn: str) -> Iterator[Scenario]:
    """Detections; then one is updated, one expired by its producer, one expired by its time, and one announced late."""
    with (
        servers.valkey() as server,
        servers.new_database(postgres_18_dsn) as dsn,
        archiving_service(server.connection_url, dsn) as client,
    ):
        # 90 seconds of age and 90 minutes of life: the scan rounds both, and the rounded values stay the same.
        start = time.time()
        times = {"timestamp": start - 90, "expires_at": start + 5_400}
        detections = [detection(symbol, rs=1.2, **times) for symbol in ("AAPL", "MSFT", "NVDA", "BRK.B")]
        brief = detection("TSLA", **{**times, "expires_at": start + BRIEF_SECONDS})
        header = post(client, [*detections, brief])
        assert client.get(f"{SCAN}?symbols=TSLA", headers=header).json()["pagination"]["total"] <= 1
        wait_until(lambda: client.get(f"{SCAN}?symbols=TSLA").json()["pagination"]["total"] == 0, "TSLA has expired")
        first = observe(client, header)
        updated = detection("AAPL", rs=1.9, **{**times, "confidence": 0.95})
        expired = {"event_type": "pattern_expired", "data": {"symbol": "MSFT", "pattern": "Weekly_Breakout"}}
        expired["data"]["timestamp"] = times["timestamp"]
        late = detection("LATE", **{**times, "timestamp": start - 600})
        later = post(client, [updated | {"timestamp": start}, expired, late])
        header = {name: f"{positions},{later[name]}" for name, positions in header.items()}
        second = observe(client, header)
        yield Scenario(client, first, second, header, start)


@pytest.mark.parametrize("query", QUERIES)
def test_scan_as_of_a_moment_repeats_the_result_of_that_moment(scenario: Scenario, query: str) -> None:
    assert scenario.first.results[query] != scenario.second.results[query]
    for observation in (scenario.first, scenario.second):
        iso_moment = datetime.fromtimestamp(observation.moment, UTC).isoformat().replace("+00:00", "Z")
        for moment in (repr(observation.moment), iso_moment):
            result = scan_result(scenario.client, f"{query}&as_of={moment}", scenario.header)
            assert result == observation.results[query]


def scanned_symbols(scenario: Scenario, query: str) -> list[str]:
    query = f"confidence_min=0&sort_by=symbol&sort_order=asc&{query}"
    rows = scan_result(scenario.client, query, scenario.header)["patterns"]
    return [row["symbol"] for row in rows]


def test_expired_pattern_is_in_scans_before_its_expiry_only(scenario: Scenario) -> None:
    assert "TSLA" not in scanned_symbols(scenario, f"as_of={scenario.first.moment!r}")
    [row] = scan_result(
        scenario.client, f"symbols=TSLA&as_of={scenario.start + BRIEF_SECONDS - 0.01!r}&fields=full", scenario.header
    )["patterns"]
    assert (row["exp"], row["time"]) == ("0s", "1m")


def test_late_announcement_is_in_scans_of_its_market_time_only(scenario: Scenario) -> None:
    five_minutes_ago = f"{scenario.start - 300!r}"
    assert scanned_symbols(scenario, f"as_of={five_minutes_ago}") == []
    assert scanned_symbols(scenario, f"as_of_valid={five_minutes_ago}") == ["LATE"]
    assert "LATE" not in scanned_symbols(scenario, f"as_of={scenario.first.moment!r}")
    assert "LATE" in scanned_symbols(scenario, f"as_of_valid={scenario.first.moment!r}")


def test_cursors_lead_through_all_pages_of_a_past_scan(scenario: Scenario) -> None:
    query = f"as_of={scenario.first.moment!r}&per_page=1"
    expected = [row["id"] for row in scenario.first.results["fields=full"]["patterns"]]
    ids: list[str] = []
    result = scan_result(scenario.client, query, scenario.header)
    while True:
        ids += (row["id"] for row in result["patterns"])
        if result["next"] is None:
            break
        result = scan_result(scenario.client, f"{query}&cursor={result['next']}", scenario.header)
    assert ids == expected
    assert len(expected) == 4


def test_response_names_its_read_model_source_and_positions(scenario: Scenario) -> None:
    query = f"{SCAN}?as_of={scenario.second.moment!r}"
    response = scenario.client.get(query, headers=scenario.header)
    content = response.json()
    version = ActivePatterns.version
    assert content["cache_info"] == {"read_model": "pattern_history", "version": version, "build": f"{version}.1"}
    assert content["performance"]["source"] == "archive"
    positions = parse_positions(response.headers["TickView-Position"])
    min_positions = parse_positions(scenario.header["TickView-Min-Position"])
    assert sorted(positions) == [f"market-{number}" for number in range(4)]
    assert all(positions[log] >= position for log, position in min_positions.items())
    not_modified = scenario.client.get(query, headers={"If-None-Match": response.headers["ETag"]})
    assert (not_modified.status_code, not_modified.content) == (304, b"")
    assert scenario.client.head(query).status_code == 200


def test_scan_answers_504_for_a_position_that_is_not_reached(scenario: Scenario) -> None:
    response = scenario.client.get(f"{SCAN}?as_of=5", headers={"TickView-Min-Position": "market-9=0"})
    assert response.status_code == 504
    assert "pattern_history" in response.json()["detail"]
    assert "market-9 is not a log of this read model" in response.json()["detail"]
    assert scenario.client.get(f"{SCAN}?as_of=5", headers={"TickView-Min-Position": "5"}).status_code == 400


@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ("as_of=2999-01-01", "as_of", "lies in the future"),
        ("as_of_valid=32472144000", "as_of_valid", "lies in the future"),
        ("as_of=5&as_of_valid=5", "as_of_valid", "cannot be combined with as_of"),
        ("as_of=2026-11-25T09:00:00+01:00", "as_of", "%2B"),
        ("as_of=noon", "as_of", "such as 2026-11-25T09:00:00Z"),
        ("as_of=5&as_of=6", "as_of", "is given 2 times"),
        ("as_of=5&cursor=WyJjb25maWRlbmNlIiwiZGVzYyIsMC41LCJBXHUwMDAwIl0", "cursor", "is not a valid cursor"),
        ("as_of=5&confidence_min=7", "confidence_min", "less than or equal to 1"),
    ],
)
def test_scan_refuses_invalid_parameters_by_name(scenario: Scenario, query: str, field: str, reason: str) -> None:
    response = scenario.client.get(f"{SCAN}?{query}")
    assert response.status_code == 400, response.text
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert reason in response.json()["detail"]


def test_deep_page_of_an_empty_scan_is_empty(scenario: Scenario) -> None:
    page = scan_result(scenario.client, "as_of=5&page=5000", scenario.header)
    assert (page["patterns"], page["pagination"]["total"]) == ([], 0)


def test_without_an_archive_scans_of_the_past_answer_503(redis_url: str) -> None:
    with api(redis_url) as client:
        response = client.get(f"{SCAN}?as_of=5")
        assert (response.status_code, response.json()["type"]) == (503, "urn:tickview:problem:no-archive")
        assert client.get(SCAN).status_code == 200


def test_while_postgresql_is_away_only_scans_of_the_past_fail(redis_url: str) -> None:
    with servers.world_readable_folder() as folder, ExitStack() as stack:
        with servers.postgres(data=folder) as dsn:
            client = stack.enter_context(archiving_service(redis_url, dsn))
            header = post(client, [detection("AAPL")])
            before = scan_result(client, f"as_of={time.time()!r}", header)
        response = client.get(f"{SCAN}?as_of={time.time()!r}")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        assert str(folder) not in response.text
        assert client.get(SCAN).status_code == 200
        with servers.postgres(data=folder):
            wait_until(lambda: client.get(f"{SCAN}?as_of=5").status_code == 200, "scans of the past succeed again")
            assert scan_result(client, f"as_of={time.time()!r}", header)["pagination"] == before["pagination"]
            # Without PostgreSQL, an archiver ends only after several timeouts.
            stack.close()


def test_scan_as_of_now_repeats_the_present_scan(scenario: Scenario) -> None:
    """A scan of the past waits until the history is current, even if the request names no position."""
    for number in range(20):
        header = post(scenario.client, [detection(f"N{number}")])
        query = "confidence_min=0&per_page=100"
        present = without_durations(scan_result(scenario.client, query, header))
        past = without_durations(scan_result(scenario.client, f"{query}&as_of={time.time()!r}", {}))
        assert past == present


def test_the_rows_of_another_read_model_are_answered_as_of_a_moment(scenario: Scenario) -> None:
    """The scan and the endpoints of all read models share one engine; ``backtests`` has no groups and no end."""
    client, path = scenario.client, "/api/read-models/backtests"
    moments = [time.time()]
    for progress in (0.25, 0.5):
        header = post(client, [backtest_progress("job-past", progress)])
        assert client.get(path, headers=header).status_code == 200
        moments.append(time.time())
    progresses = []
    for moment in moments:
        answer = client.get(f"{path}?as_of={moment!r}&status=processing&sort_by=progress", headers=header).json()
        assert answer["cache_info"]["read_model"] == "backtest_history"
        progresses.append([row["progress"] for row in answer["rows"]])
    assert progresses == [[], [0.25], [0.5]]
