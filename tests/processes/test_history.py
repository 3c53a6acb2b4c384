"""The history of streams, patterns and backtests: the audit API and ``tickview history`` on real processes."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from redis import Redis

from tests.processes.api_service import api, detection, post
from tests.processes.archiving_service import (
    archiving_service,
    audit_events,
    backtest_progress,
    pattern_update,
    wait_until_archived,
)
from tests.processes.roles import running_role, tickview, tickview_json, wait_until


@pytest.fixture
def client(redis_url: str, database_url: str) -> Iterator[httpx.Client]:
    with archiving_service(redis_url, database_url) as client:
        yield client


def test_histories_of_streams_patterns_and_backtests(client: httpx.Client, redis_url: str, database_url: str) -> None:
    def history(*arguments: str) -> Any:
        return tickview_json("history", *arguments, redis_url=redis_url, postgres_dsn=database_url)

    now = float(int(time.time()))
    messages = [
        detection("X:BTCUSD", timestamp=now),
        detection("X:BTCUSD", timestamp=now, source="intraday"),
        pattern_update("X:BTCUSD", now, confidence=0.9),
        pattern_update("X:BTCUSD", now, confidence=0.7, tier="intraday"),
        detection("MSFT"),
        *(backtest_progress("job-1", quarter / 4) for quarter in range(2)),
        {**backtest_progress("job-1", 0.5), "status": "in [/b]"},
        backtest_progress("backtest-7", 0.1),
    ]
    header = post(client, messages)
    wait_until_archived(client)

    stream = audit_events(client, "streams/symbol-X:BTCUSD", limit=2)
    assert [event["version"] for event in stream] == [1, 2, 3, 4]
    assert [event["type"] for event in stream] == ["PatternDetected"] * 2 + ["PatternUpdated"] * 2
    assert history("symbol-X:BTCUSD") == {"events": stream, "more": False}
    assert history("symbol-X:BTCUSD", "--limit", "3") == {"events": stream[:3], "more": True}
    assert client.get("/api/audit/streams/symbol-NONE").status_code == 404
    assert client.get("/api/audit/streams/symbol-X:BTCUSD", params={"to": "2001-01-01"}).json()["events"] == []

    pattern_id = f"X:BTCUSD:Weekly_Breakout:daily:{round(now * 1000)}"
    pattern = client.get(f"/api/patterns/{pattern_id}", headers=header).json()
    assert pattern["events"] == stream[:1] + stream[2:3], (
        "an event of another tier does not belong to the pattern, an event without a tier does"
    )
    assert pattern["provenance"]["position"] == pattern["events"][-1]["position"]
    assert pattern["provenance"]["event_id"] == pattern["events"][-1]["event_id"]
    assert history(pattern_id)["events"] == pattern["events"]
    scan = client.get("/api/patterns/scan", params={"symbols": "X:BTCUSD", "fields": "full"}, headers=header).json()
    positions = {row["id"]: row["position"] for row in scan["patterns"]}
    assert positions[pattern_id] == f"{stream[2]['log']}={stream[2]['position']}"

    backtest = client.get("/api/backtests/job-1", headers=header)
    backtest_events = backtest.json()["events"]
    assert [event["data"]["progress"] for event in backtest_events] == [0.0, 0.25, 0.5]
    last = backtest_events[-1]
    assert backtest.json()["backtest"]["position"] == f"{last['log']}={last['position']}"
    not_modified = client.get("/api/backtests/job-1", headers={"If-None-Match": backtest.headers["ETag"]})
    assert not_modified.status_code == 304
    assert history("job-1")["events"] == backtest_events
    table = tickview("history", "job-1", redis_url=redis_url, postgres_dsn=database_url).stdout.decode()
    assert "BacktestProgressed" in table
    assert "progress=0.5 status=in [/b]" in table

    [event_of_job_named_like_stream] = history("backtest-7")["events"]
    assert event_of_job_named_like_stream["stream"] == "backtest-backtest-7"

    unknown = tickview("history", "job-2", redis_url=redis_url, postgres_dsn=database_url)
    assert (unknown.returncode, unknown.stdout) == (1, b"")
    assert unknown.stderr == b"tickview: There are no events of the streams job-2 and backtest-job-2.\n"


def test_audit_api_returns_every_field_of_an_event_and_filters_by_it(client: httpx.Client, database_url: str) -> None:
    before = time.time()
    post(client, [detection("AAPL"), backtest_progress("job-1", 0.5), detection("MSFT")])
    wait_until_archived(client)
    all_events = audit_events(client)
    assert {event["stream"] for event in all_events} == {"symbol-AAPL", "backtest-job-1", "symbol-MSFT"}
    assert all_events == sorted(all_events, key=lambda event: (event["recorded_at"], event["log"], event["position"]))
    [event] = audit_events(client, stream="backtest-job-1")
    with psycopg.connect(database_url) as connection:
        [[state, hash_]] = connection.execute(
            "SELECT state, hash FROM tickview.events WHERE stream = 'backtest-job-1'"
        ).fetchall()
    assert event["data"] == orjson.loads(state)
    assert event["hash"] == hash_.hex()
    assert (event["source"], event["correlation_id"], event["version"]) == ("tests", "flow-7", 1)
    assert event["origin"] == dict.fromkeys(("token", "dead_letter", "percent", "trace")) | {
        "via": "http",
        "subject": "developer",
    }
    assert before - 1 < event["recorded_at"] < time.time() + 1
    assert before - 1 < event["occurred_at"] < time.time() + 1
    assert event["data_base64"] is None
    for parameters in (
        {"type": "BacktestProgressed"},
        {"event_id": event["event_id"]},
        {"correlation": "flow-7"},
        {"log": event["log"], "from": event["position"], "to": event["position"], "stream": event["stream"]},
        {"source": "tests", "stream": "backtest-job-1"},
    ):
        assert audit_events(client, **parameters) == [event], parameters
    assert audit_events(client, source="nobody") == []
    assert audit_events(client, limit=1) == all_events
    assert audit_events(client, **{"from": "2001-01-01", "to": "2001-01-02T00:00:00Z"}) == []
    assert audit_events(client, **{"from": "2001-01-01"}) == all_events


INVALID_QUERIES: list[tuple[str, dict[str, Any], str]] = [
    ("events", {"from": "yesterday"}, "from should be a position (up to 15 digits) or a time: "),
    ("events", {"from": 7, "to": 3}, "to should not be before from"),
    ("events", {"from": "2026-01-02", "to": "2026-01-01"}, "to should not be before from"),
    ("events", {"from": "2026-13-01"}, "from should be a position (up to 15 digits) or a time: month must be in 1..12"),
    ("events", {"to": ["1", "2"]}, "to is given 2 times; give it once"),
    ("events", {"limit": 101}, "limit should be less than or equal to 100"),
    ("events", {"cursor": "WzFd"}, "cursor is not a valid cursor"),
    ("events", {"from_": 1}, "from_ is not a known parameter; known: from, to, limit, cursor, stream"),
    ("streams/symbol-AAPL", {"type": "x"}, "type is not a known parameter; known: from, to, limit, cursor"),
]


def test_audit_api_refuses_invalid_queries_with_the_reason(redis_url: str, database_url: str) -> None:
    with api(redis_url, postgres_dsn=database_url) as client:
        for path, parameters, reason in INVALID_QUERIES:
            response = client.get(f"/api/audit/{path}", params=parameters)
            assert response.status_code == 400, reason
            assert response.json()["detail"].startswith(reason)


def test_event_of_a_partly_refused_message_names_the_dead_letter(client: httpx.Client) -> None:
    valid, invalid = detection("AAPL")["data"], {**detection("MSFT")["data"], "confidence": 7}
    batch = {"event_type": "patterns_batch", "source": "tests", "patterns": [valid, invalid]}
    response = client.post("/api/events", json=[batch])
    assert response.status_code == 207
    letter = response.json()["refused"][0]["dead_letter"]
    [before] = audit_events(client, stream="symbol-AAPL")
    assert before["origin"] == {
        "via": "http",
        "subject": "developer",
        "token": None,
        "dead_letter": letter,
        "percent": None,
        "trace": None,
    }
    retry = client.post(f"/api/dead-letters/{letter}/retry")
    assert retry.status_code == 207, "the detection of MSFT is still invalid"
    assert retry.json()["events"] == []
    assert [refused["dead_letter"] for refused in retry.json()["refused"]] == [letter]
    [after] = audit_events(client, stream="symbol-AAPL")
    assert after["event_id"] == before["event_id"], "a retry records no event twice"


def test_event_of_a_retry_names_the_retry_and_the_dead_letter(redis: Redis, redis_url: str, database_url: str) -> None:
    large = orjson.dumps(detection("AAPL", note="x" * 2_000))
    with api(redis_url, postgres_dsn=database_url) as client:
        with running_role("record", redis_url=redis_url, postgres_dsn=database_url, max_message_bytes=1_024):
            redis.xadd("tickstock.ingest", {"channel": "tickstock.events.patterns", "payload": large})
            [letter] = wait_until(
                lambda: client.get("/api/dead-letters").json()["dead_letters"], "the large message is a dead letter"
            )
        retry = client.post(f"/api/dead-letters/{letter['id']}/retry")
        assert retry.status_code == 201, retry.text
        [event] = audit_events(client, stream="symbol-AAPL")
        assert event["origin"] == {
            "via": "retry",
            "subject": None,
            "token": None,
            "dead_letter": letter["id"],
            "percent": None,
            "trace": None,
        }
        assert event["hash"] is None, "without an archiver, an event has no hash"
