"""The pub/sub listener on a real server: messages on channels whose names anybody can choose."""

import pytest
from redis import Redis

from domain.announcements import Message, Receipt
from domain.wire import CHANNELS, PATTERNS
from infra.recording.intake import Intake
from infra.recording.pubsub_listener import PubsubListener
from infra.redis.functions import load
from tests.processes.roles import wait_until
from tests.threads import running_threads


def test_a_channel_whose_name_is_not_utf_8_does_not_end_the_listener(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHANNELS, "acme.*", CHANNELS[PATTERNS])  # type: ignore[index]
    load(redis)
    heard: list[Message] = []

    def record(messages: list[Message]) -> list[Receipt]:
        heard.extend(messages)
        return [Receipt((), (), None) for _ in messages]

    intake = Intake(record, backlog=10, batch_size=10, batch_seconds=0)
    listener = PubsubListener(redis, redis, intake, "new", lambda: None)
    intake.start()
    try:
        with running_threads([listener.run]):
            wait_until(lambda: listener.progress.has_begun, "the listener hears its canary")
            redis.publish(b"acme.\xff", b"1")
            redis.publish("acme.a", b"2")
            wait_until(lambda: len(heard) == 2, "both messages are heard")
    finally:
        intake.close()
    assert [(message.channel, message.payload) for message in heard] == [("acme.\ufffd", b"1"), ("acme.a", b"2")]
