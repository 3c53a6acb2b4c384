"""The audit trail as people ask for it: by HTTP and on the command line."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from redis import Redis

from tests.processes.api_service import api, detection, post
from tests.processes.past_service import ask, events, progress, update, wait_until_archived, whole_service
from tests.processes.roles import running, tickview, wait_until


@pytest.fixture
def client(redis_url: str, database_url: str) -> Iterator[httpx.Client]:
    with whole_service(redis_url, database_url) as client:
        yield client


def test_history_of_streams_patterns_and_jobs(client: httpx.Client, redis_url: str, database_url: str) -> None:
    now = float(int(time.time()))
    messages = [
        detection("X:BTCUSD", timestamp=now),
        detection("X:BTCUSD", timestamp=now, source="intraday"),
        update("X:BTCUSD", now, confidence=0.9),
        update("X:BTCUSD", now, confidence=0.7, tier="intraday"),
        detection("MSFT"),
        *(progress("job-1", done / 4) for done in range(2)),
        {**progress("job-1", 0.5), "status": "in [/b]"},
        progress("backtest-7", 0.1),
    ]
    header = post(client, messages)
    wait_until_archived(client)

    stream = events(client, "streams/symbol-X:BTCUSD", limit=2)
    assert [event["version"] for event in stream] == [1, 2, 3, 4]
    assert [event["type"] for event in stream] == ["PatternDetected"] * 2 + ["PatternUpdated"] * 2
    assert ask("history", "symbol-X:BTCUSD", redis_url=redis_url, dsn=database_url) == {"events": stream, "more": False}
    cut = ask("history", "symbol-X:BTCUSD", "--limit", "3", redis_url=redis_url, dsn=database_url)
    assert cut == {"events": stream[:3], "more": True}
    assert client.get("/api/audit/streams/symbol-NONE").status_code == 404
    assert client.get("/api/audit/streams/symbol-X:BTCUSD", params={"to": "2001-01-01"}).json()["events"] == []

    identity = f"X:BTCUSD:Weekly_Breakout:daily:{round(now * 1000)}"
    told = client.get(f"/api/patterns/{identity}", headers=header).json()
    assert told["events"] == stream[:1] + stream[2:3], "what names another tier does not belong, what names none does"
    assert told["provenance"]["position"] == told["events"][-1]["position"]
    assert told["provenance"]["event_id"] == told["events"][-1]["event_id"]
    assert ask("history", identity, redis_url=redis_url, dsn=database_url)["events"] == told["events"]
    shown = client.get("/api/patterns/scan", params={"symbols": "X:BTCUSD", "fields": "full"}, headers=header).json()
    places = {row["id"]: row["position"] for row in shown["patterns"]}
    assert places[identity] == f"{stream[2]['log']}={stream[2]['position']}"

    run = client.get("/api/backtests/job-1", headers=header)
    jobs = run.json()["events"]
    assert [event["data"]["progress"] for event in jobs] == [0.0, 0.25, 0.5]
    assert run.json()["backtest"]["position"] == f"{jobs[-1]['log']}={jobs[-1]['position']}"
    assert client.get("/api/backtests/job-1", headers={"If-None-Match": run.headers["ETag"]}).status_code == 304
    assert ask("history", "job-1", redis_url=redis_url, dsn=database_url)["events"] == jobs
    table = tickview("history", "job-1", redis_url=redis_url, postgres_dsn=database_url).stdout.decode()
    assert "BacktestProgressed" in table
    assert "progress=0.5 status=in [/b]" in table

    [named_like_a_stream] = ask("history", "backtest-7", redis_url=redis_url, dsn=database_url)["events"]
    assert named_like_a_stream["stream"] == "backtest-backtest-7"

    nothing = tickview("history", "job-2", redis_url=redis_url, postgres_dsn=database_url)
    assert (nothing.returncode, nothing.stdout) == (1, b"")
    assert nothing.stderr == b"tickview: There are no events of stream backtest-job-2.\n"


def test_an_event_is_told_whole_and_found_by_everything_it_carries(client: httpx.Client, database_url: str) -> None:
    before = time.time()
    post(client, [detection("AAPL"), progress("job-1", 0.5), detection("MSFT")])
    wait_until_archived(client)
    every = events(client)
    assert {event["stream"] for event in every} == {"symbol-AAPL", "backtest-job-1", "symbol-MSFT"}
    assert every == sorted(every, key=lambda event: (event["recorded_at"], event["log"], event["position"]))
    [event] = events(client, stream="backtest-job-1")
    with psycopg.connect(database_url) as connection:
        [[state, hash_]] = connection.execute(
            "SELECT state, hash FROM tickview.events WHERE stream = 'backtest-job-1'"
        ).fetchall()
    assert event["data"] == orjson.loads(state)
    assert event["hash"] == hash_.hex()
    assert (event["source"], event["correlation_id"], event["version"]) == ("tests", "flow-7", 1)
    assert event["origin"] == {"via": "http", "dead_letter": None}
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
        assert events(client, **parameters) == [event], parameters
    assert events(client, source="nobody") == []
    assert events(client, limit=1) == every
    assert events(client, **{"from": "2001-01-01", "to": "2001-01-02T00:00:00Z"}) == []
    assert events(client, **{"from": "2001-01-01"}) == every


REFUSED: list[tuple[str, dict[str, Any], str]] = [
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


def test_what_cannot_be_asked_is_refused(redis_url: str, database_url: str) -> None:
    with api(redis_url, postgres_dsn=database_url) as client:
        for path, parameters, reason in REFUSED:
            answer = client.get(f"/api/audit/{path}", params=parameters)
            assert answer.status_code == 400, reason
            assert answer.json()["detail"].startswith(reason)


def test_what_came_from_a_dead_letter_names_it(client: httpx.Client) -> None:
    good, bad = detection("AAPL")["data"], {**detection("MSFT")["data"], "confidence": 7}
    batch = {"event_type": "patterns_batch", "source": "tests", "patterns": [good, bad]}
    partly = client.post("/api/events", json=[batch])
    assert partly.status_code == 207
    letter = partly.json()["refused"][0]["dead_letter"]
    [first] = events(client, stream="symbol-AAPL")
    assert first["origin"] == {"via": "http", "dead_letter": letter}
    again = client.post(f"/api/dead-letters/{letter}/retry")
    assert again.status_code == 207, "MSFT's is as wrong as before"
    [known] = events(client, stream="symbol-AAPL")
    assert known["event_id"] == first["event_id"], "what was recorded before is not recorded again"


def test_what_a_retry_records_names_it_and_the_letter(redis: Redis, redis_url: str, database_url: str) -> None:
    large = orjson.dumps(detection("AAPL", note="x" * 2_000))
    with api(redis_url, postgres_dsn=database_url) as client:
        with running("record", redis_url=redis_url, postgres_dsn=database_url, max_message_bytes=1_024):
            redis.xadd("tickstock.ingest", {"channel": "tickstock.events.patterns", "payload": large})
            [letter] = wait_until(lambda: client.get("/api/dead-letters").json()["dead_letters"], "it is too large")
        again = client.post(f"/api/dead-letters/{letter['id']}/retry")
        assert again.status_code == 201, again.text
        [event] = events(client, stream="symbol-AAPL")
        assert event["origin"] == {"via": "retry", "dead_letter": letter["id"]}
        assert event["hash"] is None, "nobody archives"
