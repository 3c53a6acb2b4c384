"""What an operator does about read models over HTTP: replay, rollback, parked keys."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from redis import Redis

from domain.codec import encode, topic_of
from domain.events import PatternDetected
from domain.streams import log_of
from infra.log.event_log import EventLog, NewEvent
from infra.read_models.keys import SegmentKeys
from projections.ports import Segment
from tests.events import pattern_detected
from tests.processes.api_service import detection, post, service
from tests.processes.roles import wait_until
from tests.read_model import FIRST_BUILD

DETECTED = pattern_detected(event_id="mended", symbol="BTC/USD", occurred_at=1.0, detected_at=1.0)


@pytest.fixture
def client(redis_url: str) -> Iterator[httpx.Client]:
    with service(redis_url, lease_seconds=0.4, wait_seconds=30) as client:
        wait_until(lambda: stands(client)["live"], "there is a build")
        yield client


def stands(client: httpx.Client) -> dict[str, Any]:
    [model] = [one for one in client.get("/api/projections").json()["projections"] if one["name"] == "patterns"]
    return dict(model)


def command(client: httpx.Client, name: str, **options: Any) -> httpx.Response:
    return client.post(f"/api/projections/patterns/{name}", **options)


def test_a_replay_goes_live_and_can_be_rolled_back(client: httpx.Client) -> None:
    header = post(client, [detection("KEPT")])
    refused = command(client, "rollback")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:tickview:problem:no-such-build")
    assert "no previous build" in refused.json()["detail"]
    begun = command(client, "replay")
    assert begun.status_code == 202
    told = begun.json()["projection"]
    assert (told["live"], told["building"], told["held"], told["building_version"]) == ("1.1", "1.2", False, 1)
    assert [segment["log"] for segment in told["building_segments"]] == [f"market-{number}" for number in range(4)]
    wait_until(lambda: stands(client)["live"] == "1.2", "the replay is live")
    after = stands(client)
    assert (after["previous"], after["building"], after["building_segments"]) == ("1.1", None, [])

    def answers_from(build: str) -> bool:
        scan = client.get("/api/patterns/scan", headers=header).json()
        assert [row["symbol"] for row in scan["patterns"]] == ["KEPT"]
        return bool(scan["cache_info"]["build"] == build)

    wait_until(lambda: answers_from("1.2"), "scans follow")
    back = command(client, "rollback")
    assert (back.status_code, back.json()["projection"]["live"], back.json()["projection"]["previous"]) == (
        200,
        "1.1",
        "1.2",
    )
    wait_until(lambda: answers_from("1.1"), "scans follow back")


def test_a_held_replay_waits_and_a_second_one_joins_it(client: httpx.Client) -> None:
    held = command(client, "replay", json={"hold": True, "throttle": 1_000})
    again = command(client, "replay", json={})
    assert (held.status_code, again.status_code) == (202, 202)
    for answer in (held, again):
        told = answer.json()["projection"]
        assert (told["live"], told["building"], told["held"]) == ("1.1", "1.2", True)
    post(client, [detection("NEW")])
    wait_until(lambda: sum(one["checkpoint"] for one in stands(client)["building_segments"]) == 1, "it is current")
    assert (stands(client)["percent"], stands(client)["seconds_left"]) == (100, 0)
    assert (stands(client)["live"], stands(client)["building"]) == ("1.1", "1.2")


@pytest.mark.parametrize(
    ("content", "headers", "status", "says"),
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
def test_options_that_are_not_understood(
    client: httpx.Client, content: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    answer = command(client, "replay", content=content, headers={"Content-Type": "application/json", **headers})
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert stands(client)["building"] is None


def test_what_does_not_exist_is_named(client: httpx.Client) -> None:
    for method, path in (("POST", "replay"), ("POST", "rollback"), ("GET", "parked"), ("POST", "parked/x/retry")):
        answer = client.request(method, f"/api/projections/nonsense/{path}")
        assert answer.status_code == 404
        assert "no read model 'nonsense': there are patterns, " in answer.json()["detail"]
    missing = command(client, "parked/A:Doji:daily:1/retry")
    assert (missing.status_code, missing.json()["detail"]) == (
        404,
        "there is no parked key 'A:Doji:daily:1' in patterns",
    )
    for path in ("parked/retry", "parked/x/again", "parked//retry"):
        assert command(client, path).status_code in (404, 405)
    assert client.get("/api/projections/patterns/parked/x/retry").status_code == 405


def test_parked_keys_are_listed_and_tried_again(client: httpx.Client, redis: Redis) -> None:
    """What cannot be read is parked again; mended, it is folded, and the checkpoint stays where it is."""
    stream = DETECTED.stream
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
        wait_until(lambda: not redis.exists(keys.retry), "it has been tried")

    retry()
    assert parked() == [key]
    entry = orjson.loads(redis.lindex(events, 0))
    redis.lset(events, 0, orjson.dumps({**entry, "state": encode(DETECTED).decode()}))
    retry()
    assert parked() == []
    [row] = client.get("/api/patterns/scan").json()["patterns"]
    assert row["symbol"] == "BTC/USD"
    assert redis.hget(keys.state, "checkpoint") == checkpoint
