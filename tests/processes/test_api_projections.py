"""The operation of read models over HTTP: replay, rollback, parked keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from redis import Redis

from domain.codec import encode, topic_of
from domain.events import PatternDetected
from domain.streams import log_of
from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from infra.read_models.keys import SegmentKeys
from infra.redis.connections import connect
from projections.ports import Segment
from tests import servers
from tests.events import pattern_detected
from tests.processes.api_service import detection, post, read_model_state, service
from tests.processes.release import FIRST_BUILD, PRESENT_VERSION, SECOND_BUILD
from tests.processes.roles import wait_until

FIRST, SECOND = str(FIRST_BUILD), str(SECOND_BUILD)

DETECTION = pattern_detected(event_id="repaired", symbol="BTC/USD", occurred_at=1.0, detected_at=1.0)


@contextmanager
def service_with_build(redis_url: str) -> Iterator[httpx.Client]:
    """Run a service until its read models have a build, then yield a client of the API."""
    with service(redis_url, lease_seconds=2, wait_seconds=30) as client:
        wait_until(lambda: patterns_state(client)["live"], "the first build is live")
        yield client


@pytest.fixture
def client(redis_url: str) -> Iterator[httpx.Client]:
    with service_with_build(redis_url) as client:
        yield client


@pytest.fixture(scope="module")
def shared_client() -> Iterator[httpx.Client]:
    """A client of a service whose read models no test changes."""
    with servers.valkey() as server, service_with_build(server.connection_url) as client:
        yield client


def patterns_state(client: httpx.Client) -> dict[str, Any]:
    return read_model_state(client, "patterns")


def command(client: httpx.Client, name: str, **options: Any) -> httpx.Response:
    return client.post(f"/api/projections/patterns/{name}", **options)


def test_a_replay_becomes_live_and_can_be_rolled_back(client: httpx.Client) -> None:
    header = post(client, [detection("DETECTED")])
    refused = command(client, "rollback")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:tickview:problem:no-such-build")
    assert "no previous build" in refused.json()["detail"]
    started = command(client, "replay")
    assert started.status_code == 202
    state = started.json()["projection"]
    assert (state["live"], state["building"], state["held"]) == (FIRST, SECOND, False)
    assert state["building_version"] == PRESENT_VERSION
    assert [segment["log"] for segment in state["building_segments"]] == [f"market-{number}" for number in range(4)]
    wait_until(lambda: patterns_state(client)["live"] == SECOND, "the replay is live")
    after = patterns_state(client)
    assert (after["previous"], after["building"], after["building_segments"]) == (FIRST, None, [])

    def answers_from(build: str) -> bool:
        scan = client.get("/api/patterns/scan", headers=header).json()
        assert [row["symbol"] for row in scan["patterns"]] == ["DETECTED"]
        return bool(scan["cache_info"]["build"] == build)

    wait_until(lambda: answers_from(SECOND), "scans read the replayed build")
    rolled_back = command(client, "rollback")
    state = rolled_back.json()["projection"]
    assert (rolled_back.status_code, state["live"], state["previous"]) == (200, FIRST, SECOND)
    wait_until(lambda: answers_from(FIRST), "scans read the previous build")


def test_a_held_replay_waits_and_a_second_replay_joins_its_build(client: httpx.Client) -> None:
    held = command(client, "replay", json={"hold": True, "throttle": 1_000})
    again = command(client, "replay", json={})
    assert (held.status_code, again.status_code) == (202, 202)
    for response in (held, again):
        state = response.json()["projection"]
        assert (state["live"], state["building"], state["held"]) == (FIRST, SECOND, True)
    post(client, [detection("NEW")])

    def folded() -> int:
        return sum(segment["checkpoint"] for segment in patterns_state(client)["building_segments"])

    wait_until(lambda: folded() == 1, "the held build is current")
    assert (patterns_state(client)["percent"], patterns_state(client)["seconds_left"]) == (100, 0)
    assert (patterns_state(client)["live"], patterns_state(client)["building"]) == (FIRST, SECOND)


def verified(client: httpx.Client) -> Any:
    """Compare the builds, and return the state of the comparison at its end."""
    started = command(client, "verify")
    assert started.status_code == 202, started.text

    def state() -> Any:
        verification = client.get("/api/projections/patterns/verify").json()["verification"]
        return verification if verification["finished_at"] else None

    return wait_until(state, "the comparison has ended")


def test_a_held_replay_is_verified_and_goes_live_by_a_command(client: httpx.Client, redis_url: str) -> None:
    post(client, [detection("SAME"), detection("DIFFERS")])
    assert client.get("/api/projections/patterns/verify").json() == {"verification": None}
    assert command(client, "verify").json()["type"] == "urn:tickview:problem:no-such-build"
    assert command(client, "replay", json={"hold": True}).status_code == 202
    wait_until(lambda: patterns_state(client)["seconds_left"] == 0, "the held build is current")
    with connect(redis_url) as redis:
        log = log_of("symbol-DIFFERS", 4)
        rows = SegmentKeys(Segment("patterns", FIRST_BUILD, log)).rows
        [(key, document)] = [row for row in redis.hgetall(rows).items() if b"DIFFERS" in row[0]]
        redis.hset(rows, key, orjson.dumps({**orjson.loads(document), "confidence": 0.1}))
    verification = verified(client)
    assert (verification["old"], verification["new"], verification["error"]) == (FIRST, SECOND, None)
    assert verification["result"] == {
        "count": 1,
        "differences": [{"key": key.decode(), "field": "confidence", "old": 0.1, "new": 0.8}],
    }
    assert verification["parts"] == [{"name": "rows", "done": 4, "total": 4}]
    for build, kind in (("1.1", "no-such-build"), ("9.9", "no-such-build")):
        refused = command(client, "switch", json={"build": build})
        assert (refused.status_code, refused.json()["type"]) == (409, f"urn:tickview:problem:{kind}")
    switched = command(client, "switch", json={"build": SECOND})
    assert switched.status_code == 200, switched.text
    assert (switched.json()["projection"]["live"], switched.json()["projection"]["previous"]) == (SECOND, FIRST)
    again = verified(client)
    assert (again["old"], again["new"], again["result"]["count"]) == (FIRST, SECOND, 1)


@pytest.mark.parametrize(
    ("content", "headers", "status", "reason"),
    [
        (b"{", {}, 400, "body is not JSON"),
        (b"[]", {}, 400, "body "),
        (b'{"throttle": -1}', {}, 400, "throttle "),
        (b'{"throttle": true}', {}, 400, "throttle "),
        (b'{"hold": "yes"}', {}, 400, "hold "),
        (b'{"slow": 1}', {}, 400, "known: throttle, hold"),
        (b" " * 10_001, {}, 413, "bytes"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "application/json"),
    ],
)
def test_a_replay_with_invalid_options_is_refused(
    shared_client: httpx.Client, content: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    headers = {"Content-Type": "application/json", **headers}
    refused = command(shared_client, "replay", content=content, headers=headers)
    assert refused.status_code == status
    assert reason in refused.json()["detail"]
    assert patterns_state(shared_client)["building"] is None


def test_unknown_read_models_and_parked_keys_are_named(shared_client: httpx.Client) -> None:
    client = shared_client
    for method, path in (("POST", "replay"), ("POST", "rollback"), ("GET", "parked"), ("POST", "parked/x/retry")):
        response = client.request(method, f"/api/projections/nonsense/{path}")
        assert response.status_code == 404
        assert "There is no read model 'nonsense'. The read models are patterns, " in response.json()["detail"]
    missing = command(client, "parked/A:Doji:daily:1/retry")
    assert (missing.status_code, missing.json()["detail"]) == (
        404,
        "there is no parked key 'A:Doji:daily:1' in patterns",
    )
    for path in ("parked/retry", "parked/x/again", "parked//retry"):
        assert command(client, path).status_code in (404, 405)
    assert client.get("/api/projections/patterns/parked/x/retry").status_code == 405


def test_parked_keys_are_listed_and_retried(client: httpx.Client, redis: Redis) -> None:
    """A retry parks an unreadable event again and folds a repaired event. The checkpoint does not move."""
    stream = DETECTION.stream
    log = log_of(stream, 4)
    unreadable = NewEvent(stream, topic_of(PatternDetected), b'{"confidence": "a lot"}', "unreadable")
    EventLog(redis, log).append([unreadable])

    def parked() -> list[dict[str, Any]]:
        return list(client.get("/api/projections/patterns/parked").json()["parked"])

    [key] = wait_until(parked, "the stream is parked")
    assert {name: key[name] for name in ("key", "log", "position", "events")} == {
        "key": f"@{stream}",
        "log": log,
        "position": 1,
        "events": 1,
    }
    assert "confidence" in key["error"]
    assert key["since"] > 0
    keys = SegmentKeys(Segment("patterns", FIRST_BUILD, log))
    checkpoint = redis.hget(keys.state, "checkpoint")
    events = keys.parked_events(key["key"])

    def retry() -> None:
        retried = command(client, f"parked/{quote(key['key'], safe='')}/retry")
        assert (retried.status_code, retried.json()) == (202, {"retrying": key["key"]})
        wait_until(lambda: not redis.exists(keys.retry), "the retry is done")

    retry()
    assert parked() == [key]
    entry = orjson.loads(redis.lindex(events, 0))
    redis.lset(events, 0, orjson.dumps({**entry, "state": encode(DETECTION).decode()}))
    retry()
    assert parked() == []
    [row] = client.get("/api/patterns/scan").json()["patterns"]
    assert row["symbol"] == "BTC/USD"
    assert redis.hget(keys.state, "checkpoint") == checkpoint
