"""The API on a real service, from POST to the reads: freshness, refusals, dead letters, health and metrics."""

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest

from domain.wire import PATTERNS
from projections.patterns import ActivePatterns
from tests import servers
from tests.processes.api_service import detection, post, service
from tests.processes.roles import running_role, wait_until


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with (
        servers.valkey() as server,
        running_role("record", redis_url=server.connection_url),
        service(server.connection_url, max_message_bytes=100_000) as client,
    ):
        yield client


def backtest_progress(job: str, progress: float) -> dict[str, Any]:
    return {"event_type": "backtest_progress", "job_id": job, "progress": progress, "status": "processing"}


def backtest_result(job: str, **results: float) -> dict[str, Any]:
    return {"event_type": "backtest_result", "job_id": job, "status": "completed", "results": results}


def test_a_read_with_the_position_of_a_write_returns_its_pattern(client: httpx.Client) -> None:
    written = client.post("/api/events", json=detection("FLOW", confidence=0.914, rs=1.44, vol=2.06))
    assert written.status_code == 201
    [event] = written.json()["events"]
    assert written.json()["refused"] == []
    assert (event["type"], event["stream"], event["duplicate"]) == ("PatternDetected", "symbol-FLOW", False)
    assert written.headers["TickView-Position"] == f"{event['log']}={event['position']}"
    read = client.get(
        "/api/patterns/scan?symbols=FLOW",
        headers={"TickView-Min-Position": written.headers["TickView-Position"]},
    )
    [row] = read.json()["patterns"]
    assert {name: row[name] for name in ("symbol", "pattern", "conf", "rs", "vol", "exp", "source")} == {
        "symbol": "FLOW",
        "pattern": "WeeklyBO",
        "conf": 0.91,
        "rs": "1.4x",
        "vol": "2.1x",
        "exp": "59m",
        "source": "daily",
    }
    positions = dict(pair.split("=") for pair in read.headers["TickView-Position"].split(","))
    assert int(positions[event["log"]]) >= event["position"]
    assert read.json()["performance"]["source"] in ("redis", "replica")
    version = ActivePatterns.version
    assert read.json()["cache_info"] == {"read_model": "patterns", "version": version, "build": f"{version}.1"}


def test_a_pattern_names_the_event_that_last_changed_it(client: httpx.Client) -> None:
    message = detection("A/B", correlation_id="flow-7")
    written = client.post("/api/events", json=message)
    [event] = written.json()["events"]
    header = {"TickView-Min-Position": written.headers["TickView-Position"]}
    [row] = client.get("/api/patterns/scan?symbols=A/B", headers=header).json()["patterns"]
    pattern = client.get("/api/patterns/" + row["id"].replace("/", "%2F"))
    assert pattern.json()["provenance"] == {
        "log": event["log"],
        "position": event["position"],
        "event_id": event["event_id"],
        "producer": "tests",
        "correlation_id": "flow-7",
    }
    assert client.get("/api/patterns/A:Doji:daily:1").status_code == 404


def test_a_repeated_message_is_recorded_once(client: httpx.Client) -> None:
    message = detection("TWICE")
    [first] = client.post("/api/events", json=message).json()["events"]
    again = client.post("/api/events", json=[message, message])
    assert again.status_code == 201
    assert again.json()["events"] == [{**first, "duplicate": True}] * 2


def test_an_id_that_comes_again_with_other_content_becomes_a_dead_letter(client: httpx.Client) -> None:
    message = {**detection("SAMEID"), "event_id": "the-same-id"}
    other = {**detection("SAMEID", confidence=0.4), "event_id": "the-same-id"}
    [first] = client.post("/api/events", json=message).json()["events"]
    as_text = {"channel": PATTERNS, "payload": orjson.dumps(message).decode()}
    [again] = client.post("/api/events", json=as_text).json()["events"]
    assert again == {**first, "duplicate": True}
    answer = client.post("/api/events", json=[message, other])
    assert answer.status_code == 207
    [refused] = answer.json()["refused"]
    assert (refused["index"], refused["code"]) == (1, "same-id")
    assert "same id, other content" in refused["reason"]
    [event] = answer.json()["events"]
    assert event == {**first, "duplicate": True}
    letter = client.get(f"/api/dead-letters/{refused['dead_letter']}").json()["dead_letter"]
    assert orjson.loads(letter["payload"]) == other
    assert client.post(f"/api/dead-letters/{refused['dead_letter']}/retry").status_code == 422


def test_messages_come_with_a_channel_or_as_a_bare_payload(client: httpx.Client) -> None:
    channel = "tickstock.events.patterns"
    text = '{"event_type": "pattern_detected", "data": {"symbol": "TEXT", "pattern": "Doji", "confidence": 0.7}}'
    response = client.post(
        "/api/events",
        json=[
            {"channel": channel, "payload": text},
            {"channel": channel, "payload": detection("OBJECT")},
            detection("BARE"),
        ],
    )
    assert response.status_code == 201
    assert [event["stream"] for event in response.json()["events"]] == ["symbol-TEXT", "symbol-OBJECT", "symbol-BARE"]


def test_partly_refused_messages_answer_207_and_wholly_refused_messages_422(client: httpx.Client) -> None:
    invalid = detection("INVALID", confidence=7)
    partial = client.post("/api/events", json=[invalid, detection("VALID"), {"hello": 1}])
    assert partial.status_code == 207
    assert [event["stream"] for event in partial.json()["events"]] == ["symbol-VALID"]
    out_of_range, without_channel = partial.json()["refused"]
    assert (out_of_range["index"], out_of_range["code"]) == (0, "out-of-range")
    assert (without_channel["index"], without_channel["code"]) == (2, "unknown-channel")
    letter = client.get(f"/api/dead-letters/{without_channel['dead_letter']}").json()["dead_letter"]
    assert (letter["channel"], letter["payload"]) == ("", '{"hello":1}')
    refused = client.post("/api/events", json=invalid)
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["refused"] == [out_of_range]
    assert "confidence is 7" in refused.json()["detail"]
    letter = client.get(f"/api/dead-letters/{out_of_range['dead_letter']}").json()["dead_letter"]
    assert (letter["code"], letter["via"], letter["payload_encoding"]) == ("out-of-range", "http", "utf-8")
    assert '"INVALID"' in letter["payload"]


@pytest.mark.parametrize(
    ("content", "headers", "status", "reason"),
    [
        (b"{", {}, 400, "body is not JSON"),
        (b'{"a": NaN}', {}, 400, "body is not JSON"),
        (b"\xff", {}, 400, "body is not JSON"),
        (b"", {}, 400, "body is not JSON"),
        (b"7", {}, 400, "should be an object"),
        (b"[]", {}, 400, "1 to 1,000 messages, and has 0"),
        (b"[" + b"{}," * 1_000 + b"{}]", {}, 400, "1 to 1,000 messages, and has 1,001"),
        (b"[{}, 7]", {}, 400, "[1] should be an object"),
        (b'[{"channel": 7, "payload": {}}]', {}, 400, "[0].channel should be a text"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "application/json"),
        (b"{}", {"Content-Type": ""}, 415, "application/json"),
        (b"[" + b" " * (16 * 1024 * 1024) + b"]", {}, 413, "at most 16,777,216 bytes are allowed"),
    ],
)
def test_invalid_bodies_are_refused_with_the_reason(
    client: httpx.Client, content: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    refused = client.post("/api/events", content=content, headers={"Content-Type": "application/json", **headers})
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    assert reason in refused.json()["detail"]


def test_a_message_that_is_too_large_becomes_a_dead_letter(client: httpx.Client) -> None:
    response = client.post("/api/events", json={"channel": "tickstock.events.patterns", "payload": "x" * 100_001})
    assert response.status_code == 413
    [refused] = response.json()["refused"]
    assert refused["code"] == "too-large"
    letter = client.get(f"/api/dead-letters/{refused['dead_letter']}").json()["dead_letter"]
    assert letter["payload"] == "x" * 100_001


def test_a_payload_other_than_an_object_becomes_a_dead_letter(client: httpx.Client) -> None:
    response = client.post("/api/events", json={"channel": "tickstock.events.patterns", "payload": [1, 2, 3]})
    assert response.status_code == 422
    assert response.json()["refused"][0]["code"] == "not-an-object"
    assert response.json()["refused"][0]["dead_letter"]


def test_a_body_of_undeclared_length_that_is_too_large_is_refused(client: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(17):
            yield b" " * 1024 * 1024

    refused = client.post("/api/events", content=chunks(), headers={"Content-Type": "application/json"})
    assert refused.status_code == 413


@pytest.mark.parametrize(
    "header",
    ["", "market-0", "market-0=", "market-0=-1", "market-0=1.0", "market-0=1,", "market-0=1, market-1=2", "Market=1"],
)
def test_a_malformed_position_is_refused(client: httpx.Client, header: str) -> None:
    refused = client.get("/api/patterns/scan", headers={"TickView-Min-Position": header})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["field"] == "TickView-Min-Position"


def test_a_read_with_a_matching_etag_answers_304_without_a_body(client: httpx.Client) -> None:
    header = post(client, [backtest_result("tagged", roi=0.1), backtest_progress("other", 0.1)])
    first = client.get("/api/backtests/tagged", headers=header)
    tag = first.headers["ETag"]
    second = client.get("/api/backtests/tagged", headers={"If-None-Match": f'"x", {tag}'})
    assert (second.status_code, second.content, second.headers["ETag"]) == (304, b"", tag)
    assert "TickView-Position" in second.headers
    assert client.get("/api/backtests/tagged", headers={"If-None-Match": '"x"'}).status_code == 200
    assert client.get("/api/backtests/tagged", headers={"If-None-Match": "*"}).status_code == 304


def test_backtests_are_filtered_sorted_and_paged(client: httpx.Client) -> None:
    header = post(
        client,
        [
            *(
                backtest_result(f"sorted-{number}", sharpe_ratio=number / 10, roi=0.5 - number / 10)
                for number in range(5)
            ),
            backtest_progress("running", 0.25),
        ],
    )
    header = header | {"Accept": "application/json"}
    best = client.get("/api/backtests?status=completed&sort_by=sharpe_ratio&per_page=2", headers=header).json()
    assert [run["job_id"] for run in best["backtests"]] == ["sorted-4", "sorted-3"]
    assert best["pagination"]["total"] >= 5
    worst = client.get("/api/backtests?sort_by=roi&sort_order=asc&status=completed,failed&per_page=100").json()
    values = [run["results"].get("roi", float("-inf")) for run in worst["backtests"]]
    assert len(values) >= 5
    assert values == sorted(values)
    running = client.get("/api/backtests?status=processing").json()["backtests"]
    assert {"running": 0.25}.items() <= {run["job_id"]: run["progress"] for run in running}.items()
    assert {run["status"] for run in running} == {"processing"}
    assert client.get("/api/backtests/unknown").status_code == 404
    assert client.get("/api/backtests?sort_by=confidence").status_code == 400
    refused = client.get("/api/backtests?status=done")
    assert refused.status_code == 400
    assert "no such status; known: processing, completed, failed, cancelled" in refused.json()["detail"]


def test_dead_letters_are_listed_retried_and_discarded(client: httpx.Client) -> None:
    ids = []
    for number in range(3):
        refused = client.post("/api/events", json=detection("LETTER", confidence=200 + number))
        ids.append(refused.json()["refused"][0]["dead_letter"])
    first = client.get("/api/dead-letters?limit=2").json()
    assert [letter["id"] for letter in first["dead_letters"]] == [ids[2], ids[1]]
    second = client.get(f"/api/dead-letters?limit=2&cursor={first['next']}").json()
    assert second["dead_letters"][0]["id"] == ids[0]
    retried = client.post(f"/api/dead-letters/{ids[0]}/retry")
    assert retried.status_code == 422
    assert retried.json()["refused"][0]["dead_letter"] == ids[0]
    assert client.get(f"/api/dead-letters/{ids[0]}").json()["dead_letter"]["retries"] == 1
    discarded = client.delete(f"/api/dead-letters/{ids[0]}")
    assert (discarded.status_code, discarded.content) == (204, b"")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
        assert client.request(method, f"/api/dead-letters/{ids[0]}{path}").status_code == 404
    assert client.get("/api/dead-letters?cursor=1e3").status_code == 400


def test_statistics_summary_and_dashboard_agree(client: httpx.Client) -> None:
    header = post(client, [detection("COUNT", confidence=0.95), backtest_result("counted", roi=1.0)])
    counted = client.get("/api/patterns/stats", headers=header).json()["statistics"]
    assert counted["by_symbol"]["COUNT"] == 1
    assert counted["total"] == sum(counted["by_tier"].values()) == sum(counted["by_confidence"].values())
    summary = client.get("/api/patterns/summary", headers=header).json()["summary"]
    assert summary["total"] == counted["total"]
    assert summary["most_confident"][0]["symbol"] == "COUNT"
    assert summary["latest"][0]["symbol"] == "COUNT"
    dashboard = client.get("/api/dashboard/stats?days=1", headers=header).json()["statistics"]
    assert dashboard["today"]["patterns_detected"] >= 1
    assert dashboard["today"]["backtests_completed"] >= 1
    assert dashboard["by_source"]["tests"] >= 1
    assert abs(dashboard["latest"]["PatternDetected"] - time.time()) < 60
    assert sum(day["events"] for day in dashboard["by_day"]) == dashboard["total"] == sum(dashboard["by_type"].values())


def test_the_dashboard_counts_detections_by_minute_also_of_patterns_that_have_ended(client: httpx.Client) -> None:
    at = (time.time() // 60 - 10) * 60 + 1
    messages = [detection(f"MINUTE{number}", timestamp=at, expires_at=at + 1 + 3_600 * number) for number in range(2)]
    header = post(client, messages)
    counted = client.get("/api/dashboard/stats", headers=header).json()["statistics"]["by_minute"]
    assert {"minute": int(at) - 1, "detections": 2} in counted
    assert [each["minute"] - counted[0]["minute"] for each in counted] == list(range(0, 1_800, 60))
    assert 0 <= time.time() - counted[-1]["minute"] < 120
    symbols = client.get("/api/patterns/scan?symbols=MINUTE0,MINUTE1", headers=header).json()["patterns"]
    assert [row["symbol"] for row in symbols] == ["MINUTE1"]


def test_the_statistics_are_bounded_whatever_producers_send(client: httpx.Client) -> None:
    messages: list[dict[str, Any]] = []
    for number in range(150):
        message = {**detection("MANY"), "source": f"producer-{number}"}
        messages += [message, {**message, "timestamp": message["timestamp"] - (number + 1) * 86_400}]
    after = post(client, messages)
    statistics = client.get("/api/dashboard/stats", headers=after, params={"days": 7}).json()["statistics"]
    assert (len(statistics["by_source"]), statistics["sources"] >= 150) == (100, True)
    assert len(statistics["by_day"]) == 7
    assert statistics["total"] == sum(day["events"] for day in statistics["by_day"])


def test_a_message_from_the_future_is_refused_with_the_reason(client: httpx.Client) -> None:
    message = detection("FUTURE", timestamp=32_472_144_000)
    refused = client.post("/api/events", json=message)
    assert (refused.status_code, refused.json()["refused"][0]["code"]) == (422, "in-the-future")
    assert "2999-" in refused.json()["detail"]
    letter = client.get(f"/api/dead-letters/{refused.json()['refused'][0]['dead_letter']}").json()["dead_letter"]
    assert (letter["code"], letter["via"]) == ("in-the-future", "http")


def test_an_expiry_without_a_time_ends_the_latest_detection_or_is_counted_for_its_producer(
    client: httpx.Client,
) -> None:
    expiry = {
        "event_type": "pattern_expired",
        "source": "undated",
        "data": {"symbol": "ENDS", "pattern": "Weekly_Breakout"},
    }
    now = time.time()
    earlier, latest = (detection("ENDS", timestamp=now - age) for age in (60, 30))
    post(client, [earlier])
    after = post(client, [latest, expiry])
    [row] = client.get("/api/patterns/scan?symbols=ENDS", headers=after).json()["patterns"]
    assert row["id"].endswith(f":{round((now - 60) * 1000)}")
    written = client.post("/api/events", json=[expiry | {"event_id": f"undated-{number}"} for number in range(3)])
    assert [event["type"] for event in written.json()["events"]] == ["PatternExpired", *["UndatedExpiry"] * 2]
    after = {"TickView-Min-Position": written.headers["TickView-Position"]}
    producer = client.get("/api/read-models/producers/undated", headers=after).json()["row"]
    assert (producer["unmatched_expiries"], producer["reports"], producer["status"]) == (2, 0, "unknown")
    reported = client.get("/api/pattern-discovery/health").json()["producers"]
    assert "undated" not in {producer["source"] for producer in reported}


def test_health_reports_read_models_servers_and_producers(client: httpx.Client) -> None:
    header = post(client, [{"event_type": "system_health", "source": "p-1", "status": "healthy", "metrics": {}}])
    for path in ("/api/patterns/scan", "/api/backtests", "/api/dashboard/stats", "/api/patterns/health"):
        assert client.get(path, headers=header).status_code == 200
    models = {model["name"]: model for model in client.get("/api/projections").json()["projections"]}
    assert models.keys() == {"patterns", "backtests", "activity", "producers", "symbols", "universes", "workspaces"}
    patterns = models["patterns"]
    progress = {name: patterns[name] for name in ("version", "lag_events", "percent", "seconds_left")}
    assert progress == {"version": ActivePatterns.version, "lag_events": 0, "percent": 100, "seconds_left": 0}
    assert [segment["log"] for segment in patterns["segments"]] == [f"market-{number}" for number in range(4)]
    assert all(segment["owner"] for segment in patterns["segments"])
    wait_until(lambda: client.get("/api/health").json()["status"] == "healthy", "the service is healthy")
    health = client.get("/api/health").json()
    assert health["servers"]["redis"]["latency_ms"] > 0
    assert client.get("/api/patterns/health").json()["parked_keys"] == 0
    discovery = client.get("/api/pattern-discovery/health").json()
    assert {"source": "p-1", "status": "healthy"}.items() <= discovery["producers"][0].items()
    assert discovery["patterns"] == client.get("/api/patterns/stats").json()["statistics"]["total"]


def measured_scans(client: httpx.Client) -> int:
    """Read the number of scans from the metrics, and check that the sum of the buckets equals the number."""
    series = r'^tickview_http_request_seconds_{}{{{}method="GET",route="/api/patterns/scan",status="200"}} ([0-9.]+)$'
    metrics = client.get("/metrics").text
    [count] = re.findall(series.format("count", ""), metrics, re.MULTILINE) or ["0"]
    [bucket] = re.findall(series.format("bucket", r'le="\+Inf",'), metrics, re.MULTILINE) or ["0"]
    assert count == bucket
    return int(float(count))


def test_requests_appear_in_the_performance_report_and_in_the_metrics(client: httpx.Client) -> None:
    assert client.get("/api/patterns/scan").status_code == 200
    performance = client.get("/api/pattern-discovery/performance").json()
    [scan] = [row for row in performance["operations"] if row["operation"] == "GET /api/patterns/scan"]
    assert 0 < scan["p50_ms"] <= scan["p95_ms"] <= scan["p99_ms"]
    assert scan["met"] == (scan["p95_ms"] <= scan["target_p95_ms"])
    metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'tickview_segment_lag_events{log="market-0",read_model="patterns"} 0.0' in metrics.text
    before = measured_scans(client)
    for confidence in range(10):
        client.get("/api/patterns/scan", params={"confidence_min": confidence / 10})
    # Each process writes its measurements once a second.
    wait_until(lambda: measured_scans(client) >= before + 10, "all scans are in the metrics")
    assert "secret" not in client.get("/secret-path").text
    assert "secret-path" not in client.get("/metrics").text


def test_head_options_and_unknown_methods_and_paths_follow_http(client: httpx.Client) -> None:
    get, head = client.get("/api/backtests"), client.head("/api/backtests")
    assert head.content == b""
    assert {name: head.headers[name] for name in ("ETag", "Content-Length", "Content-Type")} == {
        name: get.headers[name] for name in ("ETag", "Content-Length", "Content-Type")
    }
    options = client.options("/api/backtests")
    assert (options.status_code, options.headers["Allow"]) == (200, "GET, HEAD")
    refused = client.put("/api/backtests")
    assert refused.status_code == 405
    assert refused.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert refused.json()["type"] == "urn:tickview:problem:method-not-allowed"
    missing = client.get("/api/nowhere")
    assert (missing.status_code, missing.json()["title"]) == (404, "Not Found")
    assert client.get("/api/health?verbose=1").json()["errors"][0]["reason"].endswith("known: none")
