"""The queue of deliveries in Redis: one queue for each partition of the market log, under the lease on the partition.

The lease, its fence and the commit are those of the read models. Matches are queued together with the checkpoint, so
that a crash neither loses a match nor queues it twice.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from domain.errors import TickViewError
from infra.alerts.deliveries import Delivery, Outcome
from infra.log.keys import LogKeys
from infra.read_models.commit_commands import Command
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from infra.redis.connections import RedisClient
from projections.ports import CommitOutcome, Lease, Segment
from projections.versions import Build
from readapi.ports.operations import AlertStatus

QUEUE = "@alerts"
"""The name under which alerters lease partitions. It differs from the name of every read model."""

KEPT_ENDED = 10_000
"""Number of the latest ended deliveries of a partition whose ids are kept, so that they are not queued again."""

LOAD_BATCH = 500
"""Approximate number of deliveries that one command reads."""


class LeaseLostError(TickViewError):
    """Another process has the lease on the partition. Nothing was written."""


class QueueKeys(NamedTuple):
    """The keys of the queue of one partition, in the hash slot of its state."""

    deliveries: str
    """Hash: id -> delivery as JSON."""
    waiting: str
    """Sorted set: the ids of the waiting deliveries, scored by the time at which the detection was recorded."""
    ended: str
    """Sorted set: the ids of the latest ended deliveries, scored by the time of the end."""
    counts: str
    """Sorted set: ``delivered``, ``failed`` and ``retry``, scored by the number of these outcomes."""
    state: str
    """Hash: the lease and the checkpoint (see ``SegmentKeys``)."""

    @classmethod
    def of(cls, log: str) -> "QueueKeys":
        """Return the keys of a partition."""
        keys = SegmentKeys(segment_of(log))
        deliveries, waiting, ended, counts = (
            keys.prefix + name for name in ("deliveries", "waiting", "ended", "counts")
        )
        return cls(deliveries, waiting, ended, counts, keys.state)


def segment_of(log: str) -> Segment:
    """Return the segment that stands for the alerts of a partition. Its build is the format of the queue."""
    return Segment(QUEUE, Build(1, 1), log)


class DeliveryQueue:
    """The queue of one partition. Its methods must not be called at the same time.

    Every method that writes raises LeaseLostError if another process has the lease, and RedisError.

    Args:
        client: The client of the server that holds the queue.
        lease: The lease on the partition.
    """

    def __init__(self, client: RedisClient, lease: Lease) -> None:
        self._client = client
        self._store = RedisStore(client)
        self._lease = lease
        self._keys = QueueKeys.of(lease.segment.log)

    def load(self) -> list[Delivery]:
        """Read all waiting deliveries, without their patterns."""
        documents = (document for _, document in self._client.hscan_iter(self._keys.deliveries, count=LOAD_BATCH))
        return [_decoder.decode(document).without_pattern() for document in documents]

    def read(self, delivery_id: str) -> Delivery | None:
        """Read one delivery with its pattern. None: it has ended."""
        document: Any = self._client.hget(self._keys.deliveries, delivery_id)
        return None if document is None else _decoder.decode(document)

    def ended_among(self, ids: Sequence[str]) -> set[str]:
        """Return which of the deliveries have ended already. ``ids`` must not be empty."""
        scores: Any = self._client.zmscore(self._keys.ended, list(ids))
        return {each for each, score in zip(ids, scores, strict=True) if score is not None}

    def commit_matches(self, position: int, deliveries: Collection[Delivery]) -> None:
        """Queue deliveries and move the checkpoint, all or nothing."""
        commands: list[Command] = [("HSET", self._keys.state, ["checkpoint", position])]
        for delivery in deliveries:
            commands += [
                _stored(self._keys, delivery),
                ("ZADD", self._keys.waiting, [delivery.recorded_at, delivery.id]),
            ]
        self._commit(position, commands)

    def commit_outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """Remove ended deliveries, and store when the others are due again, all or nothing."""
        commands: list[Command] = []
        for outcome in outcomes:
            delivery = outcome.delivery
            if outcome.kind == "retry":
                commands.append(_stored(self._keys, delivery))
            else:
                commands += [
                    ("HDEL", self._keys.deliveries, [delivery.id]),
                    ("ZREM", self._keys.waiting, [delivery.id]),
                    ("ZADD", self._keys.ended, [time.time(), delivery.id]),
                ]
            if outcome.kind != "dropped":
                commands.append(("ZINCRBY", self._keys.counts, [1, outcome.kind]))
        self._commit(self._lease.checkpoint, commands)
        self._client.zremrangebyrank(self._keys.ended, 0, -KEPT_ENDED - 1)

    def _commit(self, position: int, commands: Sequence[Command]) -> None:
        outcome = self._store.send(self._lease, position, commands).result()
        if outcome is not CommitOutcome.COMMITTED and outcome is not CommitOutcome.ALREADY_COMMITTED:
            raise LeaseLostError(f"the alerts of {self._lease.segment.log} have another owner: {outcome.value}")


def read_alert_status(client: RedisClient, logs: Sequence[str], now: float) -> AlertStatus:
    """Read the state of the queues of all partitions, in one round trip."""
    with client.pipeline(transaction=False) as pipeline:
        for log, keys in zip(logs, map(QueueKeys.of, logs), strict=True):
            pipeline.zcard(keys.waiting)
            pipeline.zrange(keys.waiting, 0, 0, withscores=True)
            pipeline.zrange(keys.counts, 0, -1, withscores=True)
            pipeline.hget(keys.state, "checkpoint")
            pipeline.hget(LogKeys(log).meta, "position")
        replies = pipeline.execute()
    counts: dict[str, int] = {"delivered": 0, "failed": 0, "retry": 0}
    for name, number in (pair for reply in replies[2::5] for pair in reply):
        counts[name.decode()] += int(number)
    oldest = [score for reply in replies[1::5] for _, score in reply]
    heads_and_checkpoints = zip(replies[4::5], replies[3::5], strict=True)
    return AlertStatus(
        waiting=sum(replies[0::5]),
        oldest_seconds=round(max(0.0, now - min(oldest)), 3) if oldest else 0.0,
        lag_events=sum(max(0, int(head or 0) - int(at)) for head, at in heads_and_checkpoints if at is not None),
        outcomes=counts,
    )


def _stored(keys: QueueKeys, delivery: Delivery) -> Command:
    return "HSET", keys.deliveries, [delivery.id, msgspec.json.encode(delivery).decode()]


_decoder = msgspec.json.Decoder(Delivery)
