"""``tickview status`` and ``tickview projections`` on real processes: lags, counts and parked keys."""

from typing import Any

import pytest
from redis import Redis

from domain.codec import topic_of
from domain.events import PatternDetected
from domain.streams import log_of
from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from infra.read_models.keys import SegmentKeys
from projections.ports import Segment
from tests.events import new_event, pattern_detected
from tests.processes.release import FIRST_BUILD
from tests.processes.roles import running_role, tickview, tickview_json, wait_until

TOPIC = topic_of(PatternDetected)


def detection(symbol: str, number: int) -> NewEvent:
    times = {"occurred_at": 1.0, "detected_at": number}
    return new_event(pattern_detected(event_id=f"{symbol}-{number}", symbol=symbol, **times))


def append(redis: Redis, *events: NewEvent) -> None:
    for event in events:
        EventLog(redis, log_of(event.stream, 4)).append([event])


def test_unreadable_event_parks_only_its_stream(redis: Redis, redis_url: str) -> None:
    unreadable = NewEvent("symbol-AAPL", TOPIC, b'{"confidence": "a lot"}', "unreadable")
    append(redis, detection("AAPL", 1), unreadable, detection("AAPL", 2), detection("MSFT", 1))

    def parked() -> Any:
        return tickview_json("projections", "patterns", "--parked", redis_url=redis_url)["parked"]

    with running_role("project", redis_url=redis_url, lease_seconds=0.5):
        [stream] = wait_until(parked, "the stream is parked")
        assert (stream["key"], stream["position"], stream["events"]) == ("@symbol-AAPL", 2, 2)
        assert "confidence" in stream["error"]
        keys = {log: SegmentKeys(Segment("patterns", FIRST_BUILD, log)) for log in ("market-1", "market-2")}
        wait_until(
            lambda: all(redis.hlen(segment.rows) == 1 for segment in keys.values()), "the other events are folded"
        )
        projections = tickview_json("projections", redis_url=redis_url)["projections"]
        assert {projection["name"]: projection["parked_keys"] for projection in projections} == {
            "patterns": 1,
            "backtests": 0,
            "activity": 1,
            "producers": 0,
            "symbols": 0,
            "universes": 0,
            "workspaces": 0,
        }
        retry = tickview_json("projections", "patterns", "--retry", "all", redis_url=redis_url)
        assert retry == {"retrying": ["@symbol-AAPL"]}
        wait_until(lambda: not redis.exists(keys["market-1"].retry), "the retry is done")
        assert parked() == [stream]
    refused = tickview("projections", "patterns", "--retry", "nothing", redis_url=redis_url)
    assert refused.returncode == 1
    assert b"nothing is not parked" in refused.stderr


def test_status_counts_recorded_duplicate_and_refused_messages(redis: Redis, redis_url: str) -> None:
    valid = b'{"event_type": "pattern_detected", "data": {"symbol": "AAPL", "pattern": "Doji", "confidence": 0.5}}'
    redis.xadd("tickstock.ingest", {"channel": "tickstock.events.patterns", "payload": valid})
    redis.xadd("tickstock.ingest", {"channel": "tickstock.events.patterns", "payload": valid})
    redis.xadd("tickstock.ingest", {"channel": "tickstock.events.patterns", "payload": b"{"})
    expected = {"stream.recorded": 1, "stream.duplicates": 1, "stream.refused": 1}
    with running_role("record", redis_url=redis_url):
        wait_until(
            lambda: tickview_json("status", redis_url=redis_url)["intake"]["counts"] == expected,
            "the messages are counted",
        )
    status = tickview_json("status", redis_url=redis_url)
    assert status["intake"]["dead_letters"] == 1
    lags = {model["name"]: model["lag_events"] for model in status["projections"]}
    market = ("patterns", "backtests", "activity", "producers", "symbols", "universes")
    assert lags == {**dict.fromkeys(market, 1), "workspaces": 0}


@pytest.mark.parametrize("options", [["--retry", "all"], ["--parked"]])
def test_projections_refuses_options_that_need_a_name(redis_url: str, options: list[str]) -> None:
    refused = tickview("projections", *options, redis_url=redis_url)
    assert (refused.returncode, b"need the NAME of a read model" in refused.stderr) == (1, True)


def test_projections_refuses_an_unknown_read_model(redis_url: str) -> None:
    refused = tickview("projections", "nothing", redis_url=redis_url)
    assert refused.returncode == 1
    assert b"There is no read model 'nothing'. The read models are patterns" in refused.stderr
