"""Listener for messages over pub/sub. Redis keeps no message for a listener that is away."""

import time
from threading import Event

import structlog
from redis import Redis
from redis.exceptions import RedisError

from domain.announcements import Message
from domain.wire import CHANNELS
from infra.processes.outage import OutageLog
from infra.recording.intake import RETRY_SECONDS, BacklogFullError, Intake

logger = structlog.get_logger()

BACKLOG_WAIT_SECONDS = 2.0
"""Longest wait for room in the backlog, in seconds, before a pub/sub message is dropped. Redis buffers only little."""

POLL_SECONDS = 0.5
"""Longest wait for a message, in seconds, before the listener checks whether it should stop."""


def listen(client: Redis, intake: Intake, stop: Event) -> None:
    """Put the messages on the producer's channels into the intake until ``stop`` is set.

    Counts the messages ``dropped`` because the backlog was full, and the ``gaps``: interruptions of the connection
    during which messages may have been missed.
    """
    outage = OutageLog("pub/sub interrupted, messages may be missed", "pub/sub resumed")
    with client.pubsub(ignore_subscribe_messages=True) as pubsub:
        pubsub.subscribe(*CHANNELS)
        while not stop.is_set():
            try:
                published = pubsub.get_message(timeout=POLL_SECONDS)
            except RedisError as error:
                intake.counts.add({"gaps": 1})
                outage.failed(error)
                stop.wait(RETRY_SECONDS)
                continue
            outage.recovered()
            if published is None:
                continue
            message = Message(published["channel"].decode(), published["data"], time.time(), "pubsub")
            try:
                intake.put(message, BACKLOG_WAIT_SECONDS)
            except BacklogFullError as error:
                intake.counts.add({"dropped": 1})
                logger.error("pub/sub message dropped", channel=message.channel, error=str(error))
