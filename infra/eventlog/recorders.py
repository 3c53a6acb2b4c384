"""Recorders of the ``eventsourcing`` library on Redis. An application sequence is an event log."""

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
from redis.exceptions import RedisError

from domain.log import LogEntry
from infra.eventlog.subscription import LogSubscription
from infra.log.append import NewEvent
from infra.log.durability import DurableFunctions
from infra.log.errors import TrackingConflictError
from infra.log.event_log import EventLog
from infra.log.keys import tagged_key
from infra.redis.cluster import UNREACHABLE_ERRORS, run_on_key_node
from infra.redis.connections import RedisClient
from infra.settings import Durability

OriginatorId = UUID | str

FILTERED_BATCH = 1_000
"""Lowest number of events per read when a topic filter may discard most of them."""


@contextmanager
def translate_redis_errors() -> Iterator[None]:
    """Convert the errors of redis-py to the errors of the library."""
    try:
        yield
    except UNREACHABLE_ERRORS as error:
        raise OperationalError(f"Redis cannot be reached: {error}") from error
    except RedisError as error:
        raise DatabaseError(str(error)) from error


class RedisAggregateRecorder(AggregateRecorder):
    """A recorder of snapshots: each originator's events by version, recorded in any order.

    Args:
        client: A client that does not decode responses.
        name: The name of the application. It becomes the hash tag of the keys.
        purpose: The kind of the events, a part of their keys: ``snapshots``.
        durability: When an insert is acknowledged.
        replicas: The number of replicas that ``replicated`` waits for.
        originator_id: Converts the stored text of an originator id.
    """

    def __init__(
        self,
        client: RedisClient,
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
        """Insert all events or none.

        Raises:
            IntegrityError: An originator has an event with the same version already.
        """
        if not stored_events:
            return None
        keys = {event.originator_id: self._key(event.originator_id) for event in stored_events}
        numbers = {originator_id: number for number, originator_id in enumerate(keys, 1)}
        arguments: list[str | bytes | int] = []
        for event in stored_events:
            arguments += (numbers[event.originator_id], event.originator_version, _member(event))
        conflict = self._functions.call("insert_versions", list(keys.values()), arguments)
        if conflict is not None:
            event = stored_events[conflict]
            raise IntegrityError(
                f"version {event.originator_version} of {event.originator_id} exists already in {self._purpose}"
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
        """Return the events of an originator with versions > ``gt`` and <= ``lte``, ordered by version."""
        sequence = self._key(originator_id)
        lowest = "-inf" if gt is None else f"({gt}"
        highest = "+inf" if lte is None else lte
        start, end = (highest, lowest) if desc else (lowest, highest)
        members: Any = run_on_key_node(
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
        return [self._stored_event(originator_id, int(version), member) for member, version in members]

    def _key(self, originator_id: OriginatorId) -> str:
        return tagged_key(self._name, f"{self._purpose}:{originator_id}")

    def _stored_event(self, originator_id: OriginatorId, version: int, member: bytes) -> StoredEvent:
        _, topic, state = member.split(b"\n", 2)
        return StoredEvent(self._originator_id(str(originator_id)), version, topic.decode(), state)


class RedisApplicationRecorder(ApplicationRecorder):
    """A recorder of an application sequence. The sequence is a log, and each originator's events are a stream of it.

    Args:
        log: The log.
        originator_id: Converts the name of a stream to an originator id.
        origin: The origin that the recorder's events get: see ``LogEntry``.
    """

    def __init__(self, log: EventLog, originator_id: Callable[[str], OriginatorId], origin: str = "") -> None:
        self.log = log
        self._originator_id = originator_id
        self._origin = origin

    @translate_redis_errors()
    def insert_events(self, stored_events: Sequence[StoredEvent], **_: Any) -> Sequence[int] | None:
        """Append all events or none.

        Raises:
            IntegrityError: A version is not the next version of its stream.
        """
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
        """Return the events of an originator with versions > ``gt`` and <= ``lte``, ordered by version."""
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
        """Return the events from position ``start`` to ``stop``, both included, ordered by position."""
        after = 0 if start is None else max(start - inclusive_of_start, 0)
        selected = frozenset(topics)
        size = max(FILTERED_BATCH, limit) if selected else limit
        notifications: list[Notification] = []
        while len(notifications) < limit:
            entries = self.log.read(after, size, stop)
            notifications += [self.notification(entry) for entry in entries if not selected or entry.topic in selected]
            if len(entries) < size:
                break
            after = entries[-1].position
        return notifications[:limit]

    @translate_redis_errors()
    def max_notification_id(self) -> int | None:
        """Return the last position, None when the log is empty."""
        return self.log.head() or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> Subscription[ApplicationRecorder]:
        """Return an iterator over the events after position ``gt``. It waits for new events in the caller's thread."""
        return LogSubscription(self, self.log, self.notification, gt, topics)

    def notification(self, entry: LogEntry) -> Notification:
        """Convert a log entry to a notification of the library."""
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
    """A recorder of the positions that a view has processed, and of counters that change in the same step.

    The methods of a view call ``insert_tracking`` with the increments of the counters, and read a counter with
    ``count``.

    Args:
        client: A client that does not decode responses.
        name: The name of the view. It becomes the hash tag of the keys.
    """

    def __init__(self, client: RedisClient, name: str) -> None:
        self._client = client
        self._tracking = tagged_key(name, "tracking")
        self._counters = tagged_key(name, "counters")
        # A crash loses a view's counters and its tracking together, and the view catches up: no need to wait.
        self._tracking_functions = DurableFunctions(client, "written", 0)

    @translate_redis_errors()
    def insert_tracking(self, tracking: Tracking, increments: Mapping[str, int] | None = None) -> None:
        """Move the tracking position and add to the counters, or do neither.

        Raises:
            IntegrityError: The position is not higher than the stored tracking position.
        """
        arguments: list[str | int] = [tracking.application_name, tracking.notification_id, token_urlsafe(12)]
        for counter, increment in (increments or {}).items():
            arguments += (counter, increment)
        last = self._tracking_functions.call("track", [self._tracking, self._counters], arguments)
        if last is not None:
            raise TrackingConflictError(f"{tracking} is not after the tracking position {last}")

    @translate_redis_errors()
    def max_tracking_id(self, application_name: str) -> int | None:
        """Return the tracking position of an application, None when there is none."""
        stored: Any = run_on_key_node(
            self._client, self._tracking, lambda node: node.hget(self._tracking, application_name)
        )
        return None if stored is None else int(stored.partition(b" ")[0])

    @translate_redis_errors()
    def count(self, counter: str) -> int:
        """Return the value of a counter."""
        return int(run_on_key_node(self._client, self._counters, lambda node: node.hget(self._counters, counter)) or 0)


class RedisProcessRecorder(RedisTrackingRecorder, RedisApplicationRecorder, ProcessRecorder):
    """A recorder of events together with the tracking position from which they follow."""

    def __init__(self, log: EventLog, originator_id: Callable[[str], OriginatorId]) -> None:
        RedisTrackingRecorder.__init__(self, log.client, log.name)
        RedisApplicationRecorder.__init__(self, log, originator_id)

    @translate_redis_errors()
    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Append all events and move the ``tracking`` position in the same step, or do neither.

        Raises:
            IntegrityError: A version is not the next version of its stream, or the position is not higher.
        """
        return self._append(stored_events, kwargs.get("tracking"))


def _member(event: StoredEvent) -> bytes:
    # The random part distinguishes a repeated call from a second insert of the same event.
    return b"\n".join((token_urlsafe(12).encode(), event.topic.encode(), event.state))
