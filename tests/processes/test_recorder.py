"""Recorder processes: three ways in, each message recorded once, whatever dies meanwhile."""

from pathlib import Path
from typing import Any

import orjson
from redis import Redis

from domain.streams import market_logs
from domain.wire import CHANNELS, INGEST_STREAM, PATTERNS
from infra.log.event_log import EventLog
from infra.recording.dead_letters import DeadLetters
from infra.recording.listeners import CLAIM_AFTER_SECONDS, GROUP
from infra.redis.connections import connect
from tests import servers
from tests.processes.roles import killed_role, running_role, tickview, wait_until

SAMPLES = Path(__file__).parent.parent / "wire"


def samples(name: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (SAMPLES / name).read_text().splitlines()]


def raw(message: dict[str, Any]) -> bytes:
    payload = message["payload"]
    return payload.encode() if isinstance(payload, str) else orjson.dumps(payload)


def detection(number: int) -> dict[str, Any]:
    data = {"symbol": f"S{number % 50}", "pattern": "Doji", "confidence": 0.5, "timestamp": 1_757_001_600 + number}
    return {"channel": PATTERNS, "payload": {"event_type": "pattern_detected", "source": "test", "data": data}}


def recorded(redis: Redis) -> list[str]:
    """The ids of all events in the log."""
    return [entry.event_id for log in market_logs(4) for entry in EventLog(redis, log).read(0, 100_000)]


def listeners(redis: Redis) -> int:
    [(_, number)] = redis.pubsub_numsub(PATTERNS)
    return int(number)


def letters(redis: Redis) -> DeadLetters:
    return DeadLetters(redis, max_count=1_000, max_bytes=100_000_000, max_age=86_400)


def test_two_recorders_on_pubsub_record_each_event_once(redis: Redis, redis_url: str) -> None:
    valid, invalid = samples("valid.jsonl"), samples("invalid.jsonl")
    known = [message for message in invalid if message["channel"] in CHANNELS]
    expected = sum(message["expect"].get("events", 1) for message in valid)
    with running_role("record", redis_url=redis_url), running_role("record", redis_url=redis_url):
        wait_until(lambda: listeners(redis) == 2, "two recorders listen")
        for message in [*valid, *known, detection(1)]:
            redis.publish(message["channel"], raw(message))
        distinct = len({(message["channel"], raw(message)) for message in known})
        wait_until(lambda: letters(redis).stats().count >= distinct, "all bad messages are dead letters")
        wait_until(lambda: len(recorded(redis)) >= expected, "all events are recorded")
        wait_until(lambda: all(letter.times >= 2 for letter in letters(redis).page(None, 500)), "both heard all")
    ids = recorded(redis)
    assert len(ids) == len(set(ids))
    assert letters(redis).stats().count == distinct


def test_what_is_added_while_no_recorder_runs_is_recorded_after_start(redis: Redis, redis_url: str) -> None:
    for number in range(1_200):
        message = detection(number)
        redis.xadd(INGEST_STREAM, {"channel": message["channel"], "payload": raw(message)})
    redis.xadd(INGEST_STREAM, {"nonsense": "1"})
    with running_role("record", redis_url=redis_url):
        wait_until(lambda: len(recorded(redis)) == 1_200, "all are recorded")
        wait_until(lambda: redis.xlen(INGEST_STREAM) == 0, "all are acknowledged and removed")
    assert letters(redis).stats().count == 1


def test_a_recorder_killed_in_the_middle_loses_and_doubles_nothing(redis: Redis, redis_url: str) -> None:
    total = 6_000
    with redis.pipeline(transaction=False) as pipeline:
        for number in range(total):
            message = detection(number)
            pipeline.xadd(INGEST_STREAM, {"channel": message["channel"], "payload": raw(message)})
        pipeline.execute()
    for kills in range(1, 4):
        with killed_role("record", redis_url=redis_url, batch_size=50):
            wait_until(lambda target=kills * 700: len(recorded(redis)) >= target, "some are recorded")
    with running_role("record", redis_url=redis_url):
        wait_until(lambda: len(recorded(redis)) >= total, "the rest is recorded")
        wait_until(
            lambda: redis.xpending(INGEST_STREAM, GROUP)["pending"] == 0,
            f"entries pending for the dead are claimed after {CLAIM_AFTER_SECONDS} s",
        )
    ids = recorded(redis)
    assert len(ids) == len(set(ids)) == total


def test_a_server_out_of_memory_is_waited_for(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """An error that the server answers with, not one of the connection: the recorder goes on all the same."""
    message = detection(1)
    with (tmp_path / "log").open("wb") as log, running_role("record", redis_url=redis_url, log=log) as process:
        wait_until(lambda: listeners(redis) == 1 and redis.exists(INGEST_STREAM), "the recorder reads")
        try:
            with redis.pipeline(transaction=True) as pipeline:
                pipeline.xadd(INGEST_STREAM, {"channel": message["channel"], "payload": raw(message)})
                pipeline.config_set("maxmemory", 1)
                pipeline.execute()
            wait_until(lambda: b"ingest stream cannot be recorded" in (tmp_path / "log").read_bytes(), "it is refused")
        finally:
            redis.config_set("maxmemory", 0)
        wait_until(lambda: len(recorded(redis)) == 1, "the event is recorded")
        assert process.poll() is None


def test_an_acknowledged_post_survives_the_death_of_valkey(tmp_path: Path) -> None:
    port, api_port = servers.free_port(), servers.free_port()
    with servers.valkey(tmp_path, port=port) as server:
        url = server.connection_url
        with running_role("serve", "--port", str(api_port), redis_url=url):
            wait_until(lambda: post(api_port, url, [detection(0)]).returncode == 0, "the API answers")
            posted = post(api_port, url, [detection(number) for number in range(1, 40)])
            assert posted.returncode == 0, posted.stderr
            server.terminate()
            server.start()
            with connect(url) as client:
                assert len(recorded(client)) == 40


def post(api_port: int, url: str, messages: list[dict[str, Any]]) -> Any:
    lines = b"\n".join(orjson.dumps(message) for message in messages)
    return tickview("publish", "-", "--via", "http", redis_url=url, port=api_port, stdin=lines, data="/nonexistent")


def test_publish_by_pubsub_and_stream(redis: Redis, redis_url: str) -> None:
    lines = b"\n".join(orjson.dumps(detection(number)) for number in range(10))
    bare = b"\n".join(orjson.dumps(detection(number)["payload"]) for number in range(5, 15))
    with running_role("record", redis_url=redis_url):
        wait_until(lambda: listeners(redis) == 1, "the recorder listens")
        assert tickview("publish", "-", redis_url=redis_url, stdin=lines).returncode == 0
        sent = tickview("publish", "-", "--via", "stream", "--channel", PATTERNS, redis_url=redis_url, stdin=bare)
        assert sent.returncode == 0, sent.stderr
        wait_until(lambda: len(recorded(redis)) == 15, "fifteen different events")


def test_publish_says_which_line_is_wrong(redis_url: str) -> None:
    wrong = tickview("publish", "-", redis_url=redis_url, stdin=b'{"channel": "a", "payload": {}}\n{"a": 1}\n')
    assert wrong.returncode == 1
    assert b"Line 2" in wrong.stderr
    assert b"Traceback" not in wrong.stderr


def test_dead_letters_by_hand(redis: Redis, redis_url: str) -> None:
    bad = b'{"event_type": "pattern_detected", "data": {"symbol": "AAPL"'
    with running_role("record", redis_url=redis_url):
        wait_until(lambda: listeners(redis) == 1, "the recorder listens")
        redis.publish(PATTERNS, bad)
        wait_until(lambda: letters(redis).stats().count == 1, "the message is a dead letter")
    listed = orjson.loads(tickview("dead-letters", "list", "--json", redis_url=redis_url).stdout)
    [letter] = listed["dead_letters"]
    shown = orjson.loads(tickview("dead-letters", "show", letter["id"], "--json", redis_url=redis_url).stdout)
    assert shown["payload"].encode() == bad
    retried = orjson.loads(tickview("dead-letters", "retry", "--all", "--json", redis_url=redis_url).stdout)
    assert retried["retried"][0]["outcome"] == "refused"
    assert letters(redis).get(letter["id"]).retries == 1
    assert tickview("dead-letters", "discard", letter["id"], redis_url=redis_url).returncode == 0
    assert letters(redis).stats().count == 0
    gone = tickview("dead-letters", "show", letter["id"], redis_url=redis_url)
    assert gone.returncode == 1
    assert b"There is no dead letter" in gone.stderr


def test_no_redis_is_said_in_one_line(tmp_path: Path) -> None:
    answer = tickview("record", redis_url=f"redis://127.0.0.1:{servers.free_port()}", data=tmp_path)
    assert answer.returncode == 1
    assert b"Traceback" not in answer.stderr
    assert len(answer.stderr.decode().strip().splitlines()) == 1
