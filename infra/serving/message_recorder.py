"""Recording of messages that producers POST to the API."""

import asyncio
import time
from collections.abc import Sequence

from eventsourcing.persistence import PersistenceError
from redis.exceptions import RedisError

from domain.announcements import Message, Receipt
from domain.origins import Sender
from infra.recording.intake import BacklogFullError, Intake
from infra.serving.blocking_calls import unavailability
from readapi.ports.errors import UnavailableError

RECORD_SECONDS = 10.0
"""Seconds that a client waits for an event log that hangs. The messages may still be recorded later."""


class AsyncMessageRecorder:
    """Records messages through the intake of this process. Implements ``MessageRecorder``."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def record(
        self, messages: Sequence[tuple[str, bytes]], sender: Sender, trace: str | None = None
    ) -> list[Receipt]:
        """Record messages. It is safe to record the same messages again.

        Args:
            messages: Channel and payload of each message.
            sender: The sender of the messages.
            trace: The ``traceparent`` of the request, or None.

        Raises:
            UnavailableError: The backlog is full, or the event log cannot be written or does not answer.
        """
        if not self._intake.is_running:
            raise UnavailableError("Redis cannot be reached; send the same messages again")
        now, words = time.time(), sender.words
        try:
            futures = [
                self._intake.submit(Message(channel, payload, now, "http", words, trace))
                for channel, payload in messages
            ]
        except BacklogFullError as error:
            raise UnavailableError(f"the intake is full: {error}") from error
        try:
            async with asyncio.timeout(RECORD_SECONDS):
                outcomes = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        except TimeoutError as error:
            raise UnavailableError(
                f"the event log did not answer within {RECORD_SECONDS:g} s; send the same messages again"
            ) from error
        receipts = []
        for outcome in outcomes:
            if isinstance(outcome, RedisError | PersistenceError):
                reason = unavailability(outcome) or UnavailableError("the event log cannot be used now")
                raise UnavailableError(
                    f"the messages are not safely recorded, send them again: {reason}", reason.retry_after
                ) from outcome
            if isinstance(outcome, BaseException):
                raise outcome
            receipts.append(outcome)
        return receipts
