"""Dead letters: messages that could not be read, kept with the reason until they are retried or discarded.

The id of a letter follows from its content, so that several recorders that hear the same message keep one letter.
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
INDEX = PREFIX + "index"
STATS = PREFIX + "stats"


@dataclass(frozen=True)
class DeadLetterStats:
    """How many letters there are, how large they are together, and how many were dropped for want of room."""

    count: int
    bytes: int
    dropped: int


def letter_id(channel: str, payload: bytes) -> str:
    """The id of the letter for a message: 32 hexadecimal digits."""
    return sha256(channel.encode() + b"\0" + payload).hexdigest()[:32]


def reasons(refusals: Sequence[Refusal]) -> str:
    """All reasons in one line."""
    return "; ".join(refusal.reason for refusal in refusals)


class DeadLetters:
    """The dead letters, bounded by count, bytes and age (seconds)."""

    def __init__(self, client: Redis, *, max_count: int, max_bytes: int, max_age: float) -> None:
        self._client = client
        self._bounds = (max_count, max_bytes)
        self._max_age = max_age

    def keep(self, letters: Sequence[DeadLetter]) -> int:
        """Keep the letters, dropping the oldest beyond the bounds; returns how many were dropped."""
        now = time.time()
        arguments: list[Argument] = [now, *self._bounds, now - self._max_age]
        for letter in letters:
            fields: list[Argument] = [
                *("channel", letter.channel, "payload", letter.payload, "received_at", letter.received_at),
                *("via", letter.via, "code", letter.code, "reason", letter.reason, "retries", 0),
            ]
            arguments += [letter.id, len(letter.payload), len(fields) // 2, *fields]
        keys = [INDEX, STATS, *(PREFIX + "letter:" + letter.id for letter in letters)]
        dropped: int = call(self._client, "store_dead_letters", keys, arguments)
        return dropped

    def page(self, before: int | None, limit: int) -> list[DeadLetter]:
        """The newest letters whose number is below ``before`` (if that is not None), the newest first."""
        self.keep([])
        upper = "+inf" if before is None else f"({before}"
        ids: Any = self._client.zrange(INDEX, upper, "-inf", desc=True, byscore=True, offset=0, num=limit)
        return [letter for letter in self._fetch([one.decode() for one in ids]) if letter]

    def get(self, identity: str) -> DeadLetter | None:
        """One letter."""
        return self._fetch([identity])[0]

    def _fetch(self, ids: Sequence[str]) -> list[DeadLetter | None]:
        with self._client.pipeline(transaction=False) as pipeline:
            for identity in ids:
                pipeline.hgetall(PREFIX + "letter:" + identity)
            return [
                _letter(identity, fields) if fields else None
                for identity, fields in zip(ids, pipeline.execute(), strict=True)
            ]

    def refused_again(self, letter: DeadLetter, refusals: Sequence[Refusal]) -> None:
        """Note that a retry failed, and why."""
        key = PREFIX + "letter:" + letter.id
        with self._client.pipeline() as pipeline:
            pipeline.hset(key, mapping={"code": refusals[0].code, "reason": reasons(refusals)})
            pipeline.hincrby(key, "retries", 1)
            pipeline.execute()

    def discard(self, identity: str) -> bool:
        """Remove a letter; whether there was one."""
        keys = [INDEX, STATS, PREFIX + "letter:" + identity]
        return bool(call(self._client, "discard_dead_letter", keys, [identity]))

    def stats(self) -> DeadLetterStats:
        """How many, how large, and how many were dropped."""
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.zcard(INDEX)
            pipeline.hmget(STATS, ["bytes", "dropped"])
            count, (size, dropped) = pipeline.execute()
        return DeadLetterStats(count, int(size or 0), int(dropped or 0))


def _letter(identity: str, fields: dict[bytes, bytes]) -> DeadLetter:
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
