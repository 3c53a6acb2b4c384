"""Dead letters: messages that TickView could not read, stored with the reason until they are retried or discarded.

The id of a dead letter is derived from its content. Several recorders that receive the same message therefore store
one dead letter.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from redis import Redis

from domain.announcements import DeadLetter
from domain.wire import Refusal
from infra.redis.functions import Argument, call

PREFIX = "tickview:{dead-letters}:"
"""Prefix of every key. Its hash tag puts all keys into one slot of a cluster."""

INDEX_KEY = PREFIX + "index"
"""Sorted set of the ids by running number."""

STATS_KEY = PREFIX + "stats"
"""Hash of the totals ``bytes`` and ``dropped``."""


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
        max_count: Highest number of dead letters.
        max_bytes: Highest total size of their payloads, in bytes.
        max_age: Highest age, in seconds since the receipt of the message.
    """

    def __init__(self, client: Redis, *, max_count: int, max_bytes: int, max_age: float) -> None:
        self._client = client
        self._bounds = (max_count, max_bytes)
        self._max_age = max_age

    def store(self, letters: Sequence[DeadLetter]) -> int:
        """Store dead letters. Return the number of old dead letters that were dropped because of the count or the size.

        Each call also removes the dead letters that are too old.
        """
        now = time.time()
        arguments: list[Argument] = [now, *self._bounds, now - self._max_age]
        for letter in letters:
            fields: list[Argument] = [
                *("channel", letter.channel, "payload", letter.payload, "received_at", letter.received_at),
                *("via", letter.via, "code", letter.code, "reason", letter.reason, "retries", 0),
            ]
            arguments += [letter.id, len(letter.payload), len(fields) // 2, *fields]
        keys = [INDEX_KEY, STATS_KEY, *(_letter_key(letter.id) for letter in letters)]
        dropped: int = call(self._client, "store_dead_letters", keys, arguments)
        return dropped

    def page(self, before: int | None, limit: int) -> list[DeadLetter]:
        """Return at most ``limit`` dead letters with running numbers below ``before``, the newest first.

        ``before`` is None for the first page.
        """
        self.store([])
        upper = "+inf" if before is None else f"({before}"
        ids: Any = self._client.zrange(INDEX_KEY, upper, "-inf", desc=True, byscore=True, offset=0, num=limit)
        return [letter for letter in self._fetch([identity.decode() for identity in ids]) if letter]

    def get(self, identity: str) -> DeadLetter | None:
        """Return the dead letter with an id, or None."""
        return self._fetch([identity])[0]

    def _fetch(self, ids: Sequence[str]) -> list[DeadLetter | None]:
        with self._client.pipeline(transaction=False) as pipeline:
            for identity in ids:
                pipeline.hgetall(_letter_key(identity))
            return [
                _parse_letter(identity, fields) if fields else None
                for identity, fields in zip(ids, pipeline.execute(), strict=True)
            ]

    def record_failed_retry(self, letter: DeadLetter, refusals: Sequence[Refusal]) -> None:
        """Store the reasons of a retry that was refused, and count the retry."""
        key = _letter_key(letter.id)
        with self._client.pipeline() as pipeline:
            pipeline.hset(key, mapping={"code": refusals[0].code, "reason": join_reasons(refusals)})
            pipeline.hincrby(key, "retries", 1)
            pipeline.execute()

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


def _parse_letter(identity: str, fields: dict[bytes, bytes]) -> DeadLetter:
    return DeadLetter(
        id=identity,
        channel=fields[b"channel"].decode(),
        payload=fields[b"payload"],
        code=fields[b"code"].decode(),
        reason=fields[b"reason"].decode(),
        received_at=float(fields[b"received_at"]),
        via=fields[b"via"].decode(),
        number=int(fields[b"number"]),
        times=int(fields[b"times"]),
        retries=int(fields[b"retries"]),
    )
