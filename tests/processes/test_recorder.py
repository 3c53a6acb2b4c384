"""Recorder processes: messages by pub/sub, ingest stream and HTTP are recorded exactly once, despite crashes."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from redis import Redis

from domain.streams import market_logs
from domain.wire import CHANNELS, INGEST_STREAM, PATTERNS
from infra.log.event_log import EventLog
from infra.recording.dead_letters import DeadLetters
from infra.recording.ingest_reader import CLAIM_AFTER_SECONDS, GROUP
from infra.redis.connections import connect
from tests import servers
from tests.processes.api_service import api
from tests.processes.roles import killed_role, running_role, tickview, tickview_json, wait_until
from tests.tcp_ports import free_port

SAMPLES = Path(__file__).parent.parent / "wire"


def sample_messages(name: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (SAMPLES / name).read_text().splitlines()]


def payload_of(message: dict[str, Any]) -> bytes:
    payload = message["payload"]
    return payload.encode() if isinstance(payload, str) else orjson.dumps(payload)


def detection(number: int) -> dict[str, Any]:
    data = {"symbol": f"S{number % 50}", "pattern": "Doji", "confidence": 0.5, "timestamp": 1_757_001_600 + number}
    return {"channel": PATTERNS, "payload": {"event_type": "pattern_detected", "source": "test", "data": data}}


def recorded_ids(redis: Redis) -> list[str]:
    """Return the ids of all events in the market logs."""
    return [entry.event_id for log in market_logs(4) for entry in EventLog(redis, log).read(0, 100_000)]


def add_detections(redis: Redis, count: int) -> None:
    """Add detections to the ingest stream."""
    with redis.pipeline(transaction=False) as pipeline:
        for number in range(count):
            message = detection(number)
            pipeline.xadd(INGEST_STREAM, {"channel": message["channel"], "payload": payload_of(message)})
        pipeline.execute()


def subscribers(redis: Redis) -> int:
    [(_, number)] = redis.pubsub_numsub(PATTERNS)
    return int(number)


def dead_letters(redis: Redis) -> DeadLetters:
    return DeadLetters(redis, max_count=1_000, max_bytes=100_000_000, max_age=86_400)


def test_two_recorders_on_pubsub_record_each_event_once(redis: Redis, redis_url: str) -> None:
    valid, invalid = sample_messages("valid.jsonl"), sample_messages("invalid.jsonl")
    invalid = [message for message in invalid if message["channel"] in CHANNELS]
    expected = sum(message["expect"].get("events", 1) for message in valid)
    with running_role("record", redis_url=redis_url), running_role("record", redis_url=redis_url):
        wait_until(lambda: subscribers(redis) == 2, "two recorders have subscribed")
        for message in [*valid, *invalid, detection(1)]:
            redis.publish(message["channel"], payload_of(message))
        distinct = len({(message["channel"], payload_of(message)) for message in invalid})
        wait_until(lambda: dead_letters(redis).stats().count >= distinct, "every invalid message is a dead letter")
        wait_until(lambda: len(recorded_ids(redis)) >= expected, "every event is recorded")
        wait_until(
            lambda: all(letter.times >= 2 for letter in dead_letters(redis).page(None, 500)),
            "both recorders received every message",
        )
    ids = recorded_ids(redis)
    assert len(ids) == len(set(ids))
    assert dead_letters(redis).stats().count == distinct


def test_recorder_records_entries_added_before_its_start(redis: Redis, redis_url: str) -> None:
    add_detections(redis, 1_200)
    redis.xadd(INGEST_STREAM, {"nonsense": "1"})
    with running_role("record", redis_url=redis_url):
        wait_until(lambda: len(recorded_ids(redis)) == 1_200, "every entry is recorded")
        wait_until(lambda: redis.xlen(INGEST_STREAM) == 0, "every entry is acknowledged and removed")
    assert dead_letters(redis).stats().count == 1


def test_killed_recorders_lose_and_repeat_no_event(redis: Redis, redis_url: str) -> None:
    total = 6_000
    add_detections(redis, total)
    for kills in range(1, 4):
        with killed_role("record", redis_url=redis_url, batch_size=50):
            wait_until(lambda target=kills * 700: len(recorded_ids(redis)) >= target, "the recorder makes progress")
    age_pending_entries(redis, CLAIM_AFTER_SECONDS)
    with running_role("record", redis_url=redis_url):
        wait_until(lambda: len(recorded_ids(redis)) >= total, "every entry is recorded")
        wait_until(
            lambda: redis.xpending(INGEST_STREAM, GROUP)["pending"] == 0,
            "the pending entries of the killed recorders are claimed",
        )
    ids = recorded_ids(redis)
    assert len(ids) == len(set(ids)) == total


def age_pending_entries(redis: Redis, seconds: float) -> None:
    """Set the idle time of all pending entries, so that the test need not wait until a recorder claims them."""
    for entry in redis.xpending_range(INGEST_STREAM, GROUP, "-", "+", 10_000):
        consumer, message_id = entry["consumer"], entry["message_id"]
        redis.xclaim(INGEST_STREAM, GROUP, consumer, 0, [message_id], idle=round(seconds * 1000), justid=True)


def test_recorder_waits_for_a_server_that_is_out_of_memory(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """The server answers with an error while the connection stays open. The recorder retries."""
    message = detection(1)
    with (tmp_path / "log").open("wb") as log, running_role("record", redis_url=redis_url, log=log) as process:
        wait_until(
            lambda: subscribers(redis) == 1 and redis.exists(INGEST_STREAM), "the recorder reads the ingest stream"
        )
        try:
            with redis.pipeline(transaction=True) as pipeline:
                pipeline.xadd(INGEST_STREAM, {"channel": message["channel"], "payload": payload_of(message)})
                pipeline.config_set("maxmemory", 1)
                pipeline.execute()
            wait_until(
                lambda: b"ingest stream cannot be recorded" in (tmp_path / "log").read_bytes(),
                "the server refuses the event",
            )
        finally:
            redis.config_set("maxmemory", 0)
        wait_until(lambda: len(recorded_ids(redis)) == 1, "the event is recorded")
        assert process.poll() is None


def test_acknowledged_post_survives_a_crash_of_valkey(tmp_path: Path) -> None:
    port, api_port = free_port(), free_port()
    with servers.valkey(tmp_path, port=port) as server:
        url = server.connection_url
        with running_role("serve", "--port", str(api_port), redis_url=url):
            wait_until(lambda: post(api_port, url, [detection(0)]).returncode == 0, "the API answers")
            completed = post(api_port, url, [detection(number) for number in range(1, 40)])
            assert completed.returncode == 0, completed.stderr
            server.terminate()
            server.start()
            with connect(url) as client:
                assert len(recorded_ids(client)) == 40


def post(api_port: int, url: str, messages: list[dict[str, Any]]) -> Any:
    lines = b"\n".join(orjson.dumps(message) for message in messages)
    return tickview("publish", "-", "--via", "http", redis_url=url, port=api_port, stdin=lines, data="/nonexistent")


def test_publish_sends_by_pubsub_and_by_the_ingest_stream(redis: Redis, redis_url: str) -> None:
    lines = b"\n".join(orjson.dumps(detection(number)) for number in range(10))
    payloads = b"\n".join(orjson.dumps(detection(number)["payload"]) for number in range(5, 15))
    with running_role("record", redis_url=redis_url):
        wait_until(lambda: subscribers(redis) == 1, "the recorder has subscribed")
        assert tickview("publish", "-", redis_url=redis_url, stdin=lines).returncode == 0
        completed = tickview(
            "publish", "-", "--via", "stream", "--channel", PATTERNS, redis_url=redis_url, stdin=payloads
        )
        assert completed.returncode == 0, completed.stderr
        wait_until(lambda: len(recorded_ids(redis)) == 15, "fifteen distinct events are recorded")


def test_publish_fails_if_nobody_hears_a_message_or_one_is_refused(redis_url: str) -> None:
    lines = orjson.dumps(detection(1)) + b"\n" + orjson.dumps({"channel": PATTERNS, "payload": "{"})
    unheard = tickview("publish", "-", redis_url=redis_url, stdin=lines)
    assert (unheard.returncode, b"2 of them were heard by nobody: start a recorder" in unheard.stdout) == (3, True)
    with api(redis_url) as client:
        refused = post(client.base_url.port, redis_url, [detection(1), {"channel": PATTERNS, "payload": "{"}])
    assert (refused.returncode, refused.stdout.count(b"refused: ")) == (3, 1), refused.stdout


def test_publish_names_the_invalid_line(redis_url: str) -> None:
    completed = tickview("publish", "-", redis_url=redis_url, stdin=b'{"channel": "a", "payload": {}}\n{"a": 1}\n')
    assert completed.returncode == 1
    assert b"Line 2" in completed.stderr
    assert b"Traceback" not in completed.stderr


def test_dead_letters_command_lists_shows_retries_and_discards(redis: Redis, redis_url: str) -> None:
    invalid = b'{"event_type": "pattern_detected", "data": {"symbol": "AAPL"'
    with running_role("record", redis_url=redis_url):
        wait_until(lambda: subscribers(redis) == 1, "the recorder has subscribed")
        redis.publish(PATTERNS, invalid)
        wait_until(lambda: dead_letters(redis).stats().count == 1, "the message is a dead letter")
    [letter] = tickview_json("dead-letters", "list", redis_url=redis_url)["dead_letters"]
    details = tickview_json("dead-letters", "show", letter["id"], redis_url=redis_url)
    assert details["payload"].encode() == invalid
    retried = tickview("dead-letters", "retry", "--all", "--json", redis_url=redis_url)
    assert (retried.returncode, orjson.loads(retried.stdout)["retried"][0]["outcome"]) == (3, "refused")
    assert dead_letters(redis).get(letter["id"]).retries == 1
    for answer in (b"", b"n\n"):
        kept = tickview("dead-letters", "discard", "--all", redis_url=redis_url, stdin=answer)
        assert (kept.returncode, b"Remove 1 dead letters permanently?" in kept.stderr) == (1, True), kept
    assert dead_letters(redis).stats().count == 1
    assert tickview("dead-letters", "discard", "--all", redis_url=redis_url, stdin=b"y\n").returncode == 0
    assert dead_letters(redis).stats().count == 0
    redis.xadd(INGEST_STREAM, {"channel": PATTERNS, "payload": invalid})
    with running_role("record", redis_url=redis_url):
        wait_until(lambda: dead_letters(redis).stats().count == 1, "the message is a dead letter again")
    assert tickview("dead-letters", "discard", "--all", "--yes", redis_url=redis_url).returncode == 0
    discarded = tickview("dead-letters", "show", letter["id"], redis_url=redis_url)
    assert discarded.returncode == 1
    assert b"There is no dead letter" in discarded.stderr


def test_a_recorder_records_while_no_log_line_can_be_written(redis: Redis, redis_url: str) -> None:
    """Each message that becomes a dead letter is logged. The log file is on a full disk."""
    with Path("/dev/full").open("wb") as full, running_role("record", redis_url=redis_url, log=full) as recorder:
        wait_until(lambda: subscribers(redis) == 1, "the recorder has subscribed")
        for number in range(2):
            redis.publish(PATTERNS, b"{" * (number + 1))
            redis.xadd(INGEST_STREAM, {"channel": PATTERNS, "payload": b"[" * (number + 1)})
            count = 2 * number + 2
            wait_until(lambda count=count: dead_letters(redis).stats().count == count, "dead letters are stored")
        add_detections(redis, 3)
        redis.publish(PATTERNS, payload_of(detection(4)))
        wait_until(lambda: len(recorded_ids(redis)) == 4, "messages of both ways are recorded")
        assert recorder.poll() is None


@pytest.mark.parametrize(
    ("url", "reason"),
    [("redis://127.0.0.1:{}", b"refused"), ("redis+sentinel://127.0.0.1:{}/svc/0", b"no Sentinel that answers")],
    ids=["server", "sentinel"],
)
def test_recorder_without_redis_exits_with_one_line(tmp_path: Path, url: str, reason: bytes) -> None:
    completed = tickview("record", redis_url=url.format(free_port()), data=tmp_path)
    assert completed.returncode == 1
    assert reason in completed.stderr
    assert len(completed.stderr) < 300
    assert b"Traceback" not in completed.stderr
    assert len(completed.stderr.decode().strip().splitlines()) == 1
