"""The journal of alerts: the end of each delivery becomes an event in the stream of the user's alerts."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from domain.codec import encode, topic_of
from domain.events import OWN_IDS
from domain.streams import alerts_stream
from domain.user_events import AlertDelivered, AlertEnded, AlertFailed
from infra.alerts.deliveries import Outcome
from infra.log.append import NewEvent
from infra.log.errors import VersionConflictError
from infra.log.event_log import EventLog
from infra.redis.cluster import run_on_key_node
from infra.user_keys.encryption import Place, UserKey, encrypt
from infra.user_keys.key_store import UserKeys

logger = structlog.get_logger()

MAX_ATTEMPTS = 5
"""Highest number of attempts to append events. Other processes may append to the same streams."""


class AlertJournal:
    """Records delivered and given-up alerts, encrypted with the keys of their users.

    The id of an event follows from the delivery: an outcome that is recorded again after a crash is no second event.

    Args:
        log: The log of the users.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._keys = UserKeys(log)

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes, in as few round trips as their users allow. Nothing is recorded about forgotten users.

        Raises:
            VersionConflictError: Other processes appended to the same streams during every attempt.
            RedisError: The log cannot be written.
            PersistenceError: The log cannot append.
        """
        waiting = [outcome for outcome in outcomes if outcome.kind in ("delivered", "failed")]
        keys = self._keys.read({outcome.delivery.user for outcome in waiting})
        while waiting:
            # One event for each user: a duplicate event would shift the versions of the events behind it.
            first = {outcome.delivery.user: outcome for outcome in reversed(waiting)}
            self._append({user: outcome for user, outcome in first.items() if user in keys and keys[user].secret}, keys)
            recorded = {id(outcome) for outcome in first.values()}
            waiting = [outcome for outcome in waiting if id(outcome) not in recorded]

    def _append(self, outcomes: Mapping[str, Outcome], keys: Mapping[str, UserKey]) -> None:
        for attempt in range(MAX_ATTEMPTS):
            versions = self._versions(list(outcomes))
            events = [_new_event(outcome, keys[user], versions[user] + 1) for user, outcome in outcomes.items()]
            try:
                self._log.append(events)
                return
            except VersionConflictError:
                if attempt == MAX_ATTEMPTS - 1:
                    raise

    def _versions(self, users: Sequence[str]) -> Mapping[str, int]:
        """Read the last versions of the streams of users. 0: there is no event yet."""
        if not users:
            return {}
        key, streams = self._log.keys.versions, list(map(alerts_stream, users))
        stored: Any = run_on_key_node(self._log.client, key, lambda node: node.hmget(key, streams))
        return {user: int(version or 0) for user, version in zip(users, stored, strict=True)}


def _new_event(outcome: Outcome, key: UserKey, version: int) -> NewEvent:
    event = _event(outcome)
    topic = topic_of(type(event))
    state = encrypt(key, Place(event.stream, version, topic), encode(event))
    return NewEvent(event.stream, topic, state, event.event_id, expected_version=version, origin="alert")


def _event(outcome: Outcome) -> AlertEnded:
    delivery = outcome.delivery
    fields: dict[str, Any] = {
        "event_id": f"{OWN_IDS}alert-{delivery.id}",
        "occurred_at": time.time(),
        "source": "tickview",
        "user": delivery.user,
        "list_id": delivery.list_id,
        "delivery_id": delivery.id,
        "detection": delivery.event_id,
        "pattern_id": delivery.pattern_id,
        "channel": delivery.channel,
        "attempts": delivery.attempts,
        "status": outcome.status,
    }
    if outcome.kind == "delivered":
        return AlertDelivered(**fields)
    return AlertFailed(**fields, reason=outcome.reason)
