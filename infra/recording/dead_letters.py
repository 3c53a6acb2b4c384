"""Dead letters: messages that TickView could not read, stored with the reason until they are retried or discarded.

The id of a dead letter is derived from its content. Several recorders that receive the same message therefore store
one dead letter.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from domain.announcements import DeadLetter, Receipt
from domain.wire import Refusal
from infra.log.durability import DurableFunctions
from infra.log.handle import DEFAULT_LOG_OPTIONS, LogOptions
from infra.redis.connections import RedisClient
from infra.redis.functions import Argument, call

PREFIX = "tickview:{dead-letters}:"
"""Prefix of every key. Its hash tag puts all keys into one slot of a cluster."""

INDEX_KEY = PREFIX + "index"
"""Sorted set of the ids by running number."""

STATS_KEY = PREFIX + "stats"
"""Hash of the totals ``bytes`` and ``dropped``."""


MAX_CHANNEL = 1_000
"""Highest number of characters of a stored channel."""

MAX_REASON = 4_000
"""Highest number of characters of a stored reason."""

SHARE = 4
"""A message takes at most this part of the highest total size, so that it never drops all other dead letters."""

SUMMARY = ("channel", "code", "reason", "received_at", "via", "number", "times", "retries", "payload_bytes", "sender")
"""The fields of a dead letter in a list: all but the message."""


@dataclass(frozen=True)
class DeadLetterStats:
    """The size of the store of dead letters."""

    count: int
    bytes: int
    dropped: int
    """Number of dead letters that were dropped because a bound was exceeded."""


def letter_id(channel: str, payload: bytes) -> str:
    """Return the id of the dead letter for a message: 32 hexadecimal digits."""
    return sha256(channel.encode() + b"\0" + payload).hexdigest()[:32]


def join_reasons(refusals: Sequence[Refusal]) -> str:
    """Join the reasons of all refusals into one line."""
    return "; ".join(refusal.reason for refusal in refusals)


class DeadLetters:
    """The store of dead letters.

    Args:
        client: The client of the server that holds the dead letters.
        options: The durability of stored dead letters. It is that of events: a dead letter takes the place of an event.
        max_count: Highest number of dead letters.
        max_bytes: Highest total size of their payloads, channels and reasons, in bytes.
        max_age: Highest age, in seconds since the dead letter was stored. The message may have been received earlier.
    """

    def __init__(
        self,
        client: RedisClient,
        options: LogOptions = DEFAULT_LOG_OPTIONS,
        *,
        max_count: int,
        max_bytes: int,
        max_age: float,
    ) -> None:
        self._client = client
        self._functions = DurableFunctions(client, options.durability, options.replicas)
        self._bounds = (max_count, max_bytes)
        self._max_payload = max_bytes // SHARE
        self._max_age = max_age

    def store(self, letters: Sequence[DeadLetter]) -> int:
        """Store dead letters. Return the number of old dead letters that were dropped because of the count or the size.

        Each call also removes the dead letters that are too old.

        Raises:
            RedisError: Redis cannot store them.
            PersistenceError: They are not as durable as the options demand, or the server cannot provide that.
        """
        now = time.time()
        arguments: list[Argument] = [now, *self._bounds, now - self._max_age]
        for letter in letters:
            payload, reason = letter.payload, letter.reason[:MAX_REASON]
            if len(payload) > self._max_payload:
                payload = payload[: self._max_payload]
                reason += f"; only the first {len(payload)} of {len(letter.payload)} bytes are stored"
            channel = letter.channel[:MAX_CHANNEL]
            fields: list[Argument] = [
                *("channel", channel, "payload", payload, "received_at", letter.received_at),
                *("via", letter.via, "code", letter.code, "reason", reason, "retries", 0),
                *("payload_bytes", len(payload), "sender", letter.sender),
                *("recorded_items", f"{letter.recorded_items:x}"),
            ]
            size = len(payload) + len(channel.encode()) + len(reason.encode())
            arguments += [letter.id, size, len(fields) // 2, *fields]
        keys = [INDEX_KEY, STATS_KEY, *(_letter_key(letter.id) for letter in letters)]
        dropped: int = self._functions.call("store_dead_letters", keys, arguments)
        return dropped

    def page(self, before: int | None, limit: int) -> list[DeadLetter]:
        """Return at most ``limit`` dead letters with running numbers below ``before``, newest first, without payloads.

        ``before`` is None for the first page. Dead letters that are too old, but not removed yet, are left out.
        """
        upper = "+inf" if before is None else f"({before}"
        ids: Any = self._client.zrange(INDEX_KEY, upper, "-inf", desc=True, byscore=True, offset=0, num=limit)
        with self._client.pipeline(transaction=False) as pipeline:
            for identity in ids:
                pipeline.hmget(_letter_key(identity.decode()), "kept_at", *SUMMARY)
            rows = pipeline.execute()
        oldest = time.time() - self._max_age
        return [
            _parse_letter(identity.decode(), dict(zip(SUMMARY, row, strict=True)))
            for identity, (kept_at, *row) in zip(ids, rows, strict=True)
            if kept_at is not None and float(kept_at) >= oldest
        ]

    def get(self, identity: str) -> DeadLetter | None:
        """Return the dead letter with an id, or None."""
        fields: Any = self._client.hgetall(_letter_key(identity))
        return _parse_letter(identity, {name.decode(): value for name, value in fields.items()}) if fields else None

    def record_failed_retry(self, letter: DeadLetter, receipt: Receipt) -> None:
        """Store the result of a retry that was refused, and count the retry, unless the letter was discarded."""
        reason = join_reasons(receipt.refusals)[:MAX_REASON]
        arguments: list[Argument] = [receipt.refusals[0].code, reason, f"{receipt.recorded_items:x}"]
        call(self._client, "fail_dead_letter_retry", [_letter_key(letter.id)], arguments)

    def discard(self, identity: str) -> bool:
        """Remove a dead letter. Return whether it existed."""
        return bool(
            call(self._client, "discard_dead_letter", [INDEX_KEY, STATS_KEY, _letter_key(identity)], [identity])
        )

    def stats(self) -> DeadLetterStats:
        """Return the size of the store."""
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.zcard(INDEX_KEY)
            pipeline.hmget(STATS_KEY, ["bytes", "dropped"])
            count, (size, dropped) = pipeline.execute()
        return DeadLetterStats(count, int(size or 0), int(dropped or 0))


def _letter_key(identity: str) -> str:
    return PREFIX + "letter:" + identity


def _parse_letter(identity: str, fields: Mapping[str, bytes]) -> DeadLetter:
    return DeadLetter(
        id=identity,
        channel=fields["channel"].decode(),
        payload=fields.get("payload", b""),
        code=fields["code"].decode(),
        reason=fields["reason"].decode(),
        received_at=float(fields["received_at"]),
        via=fields["via"].decode(),
        number=int(fields["number"]),
        times=int(fields["times"]),
        retries=int(fields["retries"]),
        payload_bytes=int(fields["payload_bytes"]),
        # Earlier releases have stored letters without a sender and without the recorded items.
        sender=(fields.get("sender") or b"").decode(),
        recorded_items=int(fields.get("recorded_items") or b"0", 16),
    )
