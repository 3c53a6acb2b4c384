"""``tickview status`` and ``tickview projections``: what the operator sees, and what is parked."""

from typing import Any

import orjson
from redis import Redis

from domain.codec import topic_of
from domain.events import PatternDetected
from domain.streams import log_of
from infra.log.event_log import EventLog, NewEvent
from infra.read_models.keys import SegmentKeys
from projections.ports import Segment
from tests.events import new_event, pattern_detected
from tests.processes.roles import running_role, tickview, wait_until
from tests.read_model import FIRST_BUILD

TOPIC = topic_of(PatternDetected)


def ask(*arguments: str, redis_url: str) -> Any:
    answer = tickview(*arguments, "--json", redis_url=redis_url)
    assert answer.returncode == 0, answer.stderr
    return orjson.loads(answer.stdout)


def detection(symbol: str, number: int) -> NewEvent:
    times = {"occurred_at": 1.0, "detected_at": number}
    return new_event(pattern_detected(event_id=f"{symbol}-{number}", symbol=symbol, **times))


def append(redis: Redis, *events: NewEvent) -> None:
    for event in events:
        EventLog(redis, log_of(event.stream, 4)).append([event])


def test_an_event_that_cannot_be_read_parks_its_stream_and_nothing_else(redis: Redis, redis_url: str) -> None:
    unreadable = NewEvent("symbol-AAPL", TOPIC, b'{"confidence": "a lot"}', "unreadable")
    append(redis, detection("AAPL", 1), unreadable, detection("AAPL", 2), detection("MSFT", 1))

    def parked() -> Any:
        return ask("projections", "patterns", "--parked", redis_url=redis_url)["parked"]

    with running_role("project", redis_url=redis_url, lease_seconds=0.5):
        [key] = wait_until(parked, "the stream is parked")
        assert (key["key"], key["position"], key["events"]) == ("@symbol-AAPL", 2, 2)
        assert "confidence" in key["error"]
        names = {log: SegmentKeys(Segment("patterns", FIRST_BUILD, log)) for log in ("market-1", "market-2")}
        wait_until(lambda: all(redis.hlen(keys.rows) == 1 for keys in names.values()), "the other events are folded")
        told = ask("projections", redis_url=redis_url)["projections"]
        assert {model["name"]: model["parked_keys"] for model in told} == {
            "patterns": 1,
            "backtests": 0,
            "activity": 1,
            "producers": 0,
            "symbols": 0,
            "universes": 0,
            "workspaces": 0,
        }
        assert ask("projections", "patterns", "--retry", "all", redis_url=redis_url) == {"retrying": ["@symbol-AAPL"]}
        wait_until(lambda: not redis.exists(names["market-1"].retry), "it was tried again")
        assert parked() == [key]
    missing = tickview("projections", "patterns", "--retry", "nothing", redis_url=redis_url)
    assert missing.returncode == 1
    assert b"nothing is not parked" in missing.stderr


def test_status_counts_what_came_in(redis: Redis, redis_url: str) -> None:
    good = b'{"event_type": "pattern_detected", "data": {"symbol": "AAPL", "pattern": "Doji", "confidence": 0.5}}'
    redis.xadd("tickstock.ingest", {"channel": "tickstock.events.patterns", "payload": good})
    redis.xadd("tickstock.ingest", {"channel": "tickstock.events.patterns", "payload": good})
    redis.xadd("tickstock.ingest", {"channel": "tickstock.events.patterns", "payload": b"{"})
    expected = {"stream.recorded": 1, "stream.duplicates": 1, "stream.refused": 1}
    with running_role("record", redis_url=redis_url):
        wait_until(lambda: ask("status", redis_url=redis_url)["intake"]["counts"] == expected, "the counts are there")
    told = ask("status", redis_url=redis_url)
    assert told["intake"]["dead_letters"] == 1
    lags = {model["name"]: model["lag_events"] for model in told["projections"]}
    market = ("patterns", "backtests", "activity", "producers", "symbols", "universes")
    assert lags == {**dict.fromkeys(market, 1), "workspaces": 0}


def test_an_unknown_read_model_is_refused(redis_url: str) -> None:
    answer = tickview("projections", "nothing", redis_url=redis_url)
    assert answer.returncode == 1
    assert b"There is no read model 'nothing'. The read models are patterns" in answer.stderr
