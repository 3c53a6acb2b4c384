"""Recorders of the ``eventsourcing`` library on Redis: application sequences are event logs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from secrets import token_urlsafe
from typing import Any
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DatabaseError,
    IntegrityError,
    Notification,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)
from redis import Redis, RedisCluster
from redis.exceptions import RedisError

from domain.log import LogEntry
from infra.eventlog.subscription import LogSubscription
from infra.log.durability import DurableFunctions
from infra.log.errors import TrackingConflictError
from infra.log.event_log import EventLog, NewEvent
from infra.log.keys import key
from infra.redis.cluster import UNREACHABLE_ERRORS, run_on_key_node
from infra.settings import Durability

OriginatorId = UUID | str

CHUNK = 1_000
"""Events read at once where a topic filter may leave few of them."""


@contextmanager
def translate_redis_errors() -> Iterator[None]:
    """What redis-py raises, as the library's own errors."""
    try:
        yield
    except UNREACHABLE_ERRORS as error:
        raise OperationalError(f"Redis cannot be reached: {error}") from error
    except RedisError as error:
        raise DatabaseError(str(error)) from error


class RedisAggregateRecorder(AggregateRecorder):
    """Events by originator and version, each version once, in any order: what snapshots need.

    Kept under ``name`` and ``purpose``, a sorted set for each originator.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        name: str,
        purpose: str,
        *,
        durability: Durability,
        replicas: int,
        originator_id: Callable[[str], OriginatorId],
    ) -> None:
        self._client = client
        self._name = name
        self._purpose = purpose
        self._functions = DurableFunctions(client, durability, replicas)
        self._originator_id = originator_id

    @translate_redis_errors()
    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Insert all of the events or none. Raises IntegrityError where a version is taken."""
        if not stored_events:
            return None
        keys = {event.originator_id: self._key(event.originator_id) for event in stored_events}
        numbers = {originator_id: number for number, originator_id in enumerate(keys, 1)}
        arguments: list[str | bytes | int] = []
        for event in stored_events:
            arguments += (numbers[event.originator_id], event.originator_version, _member(event))
        taken = self._functions.call("insert_versions", list(keys.values()), arguments)
        if taken is not None:
            event = stored_events[taken]
            raise IntegrityError(
                f"{self._purpose} of {event.originator_id} have a version {event.originator_version} already"
            )
        return None

    @translate_redis_errors()
    def select_events(
        self,
        originator_id: OriginatorId,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of one originator with versions > ``gt`` and <= ``lte``, in order of version."""
        sequence = self._key(originator_id)
        lowest = "-inf" if gt is None else f"({gt}"
        highest = "+inf" if lte is None else lte
        start, end = (highest, lowest) if desc else (lowest, highest)
        found: Any = run_on_key_node(
            self._client,
            sequence,
            lambda node: node.zrange(
                sequence,
                start,
                end,
                desc=desc,
                withscores=True,
                byscore=True,
                offset=0,
                num=-1 if limit is None else limit,
            ),
        )
        return [self._stored_event(originator_id, int(version), member) for member, version in found]

    def _key(self, originator_id: OriginatorId) -> str:
        return key(self._name, f"{self._purpose}:{originator_id}")

    def _stored_event(self, originator_id: OriginatorId, version: int, member: bytes) -> StoredEvent:
        _, topic, state = member.split(b"\n", 2)
        return StoredEvent(self._originator_id(str(originator_id)), version, topic.decode(), state)


class RedisApplicationRecorder(ApplicationRecorder):
    """The application sequence is ``log``, an originator's events a stream of it; ``origin`` says how they come in."""

    def __init__(self, log: EventLog, originator_id: Callable[[str], OriginatorId], origin: str = "") -> None:
        self.log = log
        self._originator_id = originator_id
        self._origin = origin

    @translate_redis_errors()
    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Append all of the events or none. Raises IntegrityError where a version is not the next."""
        return self._append(stored_events)

    @translate_redis_errors()
    def select_events(
        self,
        originator_id: OriginatorId,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of one originator with versions > ``gt`` and <= ``lte``, in order of version."""
        entries = self.log.read_stream(str(originator_id), gt=gt, lte=lte, desc=desc, limit=limit)
        return [
            StoredEvent(self._originator_id(entry.stream), entry.version, entry.topic, entry.state) for entry in entries
        ]

    @translate_redis_errors()
    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The events from ``start`` to ``stop``, both included, in order of position."""
        after = 0 if start is None else max(start - inclusive_of_start, 0)
        wanted = frozenset(topics)
        found: list[Notification] = []
        while len(found) < limit:
            chunk = max(CHUNK, limit) if wanted else limit
            entries = self.log.read(after, chunk, stop)
            found += [self.notification(entry) for entry in entries if not wanted or entry.topic in wanted]
            if len(entries) < chunk:
                break
            after = entries[-1].position
        return found[:limit]

    @translate_redis_errors()
    def max_notification_id(self) -> int | None:
        """The last position, None when there is none."""
        return self.log.head() or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """The events after position ``gt``, then each as it is appended; waits in the caller's thread."""
        return LogSubscription(self, self.log, self.notification, gt, topics)

    def notification(self, entry: LogEntry) -> Notification:
        """The entry as the library has it."""
        return Notification(
            originator_id=self._originator_id(entry.stream),
            originator_version=entry.version,
            topic=entry.topic,
            state=entry.state,
            id=entry.position,
        )

    def _append(self, stored_events: Sequence[StoredEvent], tracking: Tracking | None = None) -> Sequence[int]:
        events = [
            NewEvent(
                str(event.originator_id),
                event.topic,
                event.state,
                expected_version=event.originator_version,
                origin=self._origin,
            )
            for event in stored_events
        ]
        return [appended.position for appended in self.log.append(events, tracking=tracking)]


class RedisTrackingRecorder(TrackingRecorder):
    """How far the named view has followed each application, and counters that move with it.

    A view's own methods call ``insert_tracking`` with what is to be added to counters, and read these by
    ``count``.
    """

    def __init__(self, client: Redis | RedisCluster, name: str) -> None:
        self._client = client
        self._tracking = key(name, "tracking")
        self._counters = key(name, "counters")
        # A view lost with its tracking is built again from where the tracking is: nothing to wait for.
        self._tracking_functions = DurableFunctions(client, "written", 0)

    @translate_redis_errors()
    def insert_tracking(self, tracking: Tracking, increments: Mapping[str, int] | None = None) -> None:
        """Track a position and add to counters, or neither. Raises IntegrityError where it is not higher."""
        arguments: list[str | int] = [tracking.application_name, tracking.notification_id, token_urlsafe(12)]
        for counter, increment in (increments or {}).items():
            arguments += (counter, increment)
        last = self._tracking_functions.call("track", [self._tracking, self._counters], arguments)
        if last is not None:
            raise TrackingConflictError(f"{tracking} is not after {last}")

    @translate_redis_errors()
    def max_tracking_id(self, application_name: str) -> int | None:
        """The highest tracked position of the application, None when there is none."""
        found: Any = run_on_key_node(
            self._client, self._tracking, lambda node: node.hget(self._tracking, application_name)
        )
        return None if found is None else int(found.partition(b" ")[0])

    @translate_redis_errors()
    def count(self, counter: str) -> int:
        """What has been added to a counter."""
        return int(run_on_key_node(self._client, self._counters, lambda node: node.hget(self._counters, counter)) or 0)


class RedisProcessRecorder(RedisTrackingRecorder, RedisApplicationRecorder, ProcessRecorder):
    """Events and the position that they follow from, recorded together."""

    def __init__(self, log: EventLog, originator_id: Callable[[str], OriginatorId]) -> None:
        RedisTrackingRecorder.__init__(self, log.client, log.name)
        RedisApplicationRecorder.__init__(self, log, originator_id)

    @translate_redis_errors()
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """As an application recorder does, with ``tracking`` set in the same step."""
        return self._append(stored_events, kwargs.get("tracking"))


def _member(event: StoredEvent) -> bytes:
    # Unlike any other, so that a repeated insert is told from a second one.
    return b"\n".join((token_urlsafe(12).encode(), event.topic.encode(), event.state))
