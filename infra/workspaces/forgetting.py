"""Forgetting of a user: the key is destroyed, and all readable copies of the user's lists are erased.

The order of the steps makes an interruption harmless. The event is recorded first: it names the destroyed generation.
A command that comes in between therefore uses a key of the next generation, and the archiver destroys the key if this
process dies. Every step can be repeated.
"""

from dataclasses import dataclass

from redis import Redis

from domain.codec import decode, encode, is_encrypted, topic_of
from domain.log import LogEntry
from domain.streams import alerts_stream, user_stream
from domain.user_events import UserForgotten
from domain.workspace import Stamp
from infra.log.append import NewEvent
from infra.log.errors import VersionConflictError
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from infra.read_models.erasure import erase_row, wait_until_folded
from infra.redis.cluster import run_on_key_node
from infra.redis.connections import RedisClient
from infra.user_keys.archived_keys import archive_keys
from infra.user_keys.encryption import DecryptionError, UserKey, generation_of
from infra.user_keys.key_store import UserKeys
from infra.workspaces.repository import MAX_ATTEMPTS, READ_BATCH, ConflictError
from infra.workspaces.snapshots import SCHEMA, snapshots_key
from projections.workspaces import Workspaces

FOLD_SECONDS = 10.0
"""Seconds to wait for the workers that fold the read model of the lists."""


@dataclass
class UserHistory:
    """The events of one user, counted by the effect that forgetting has on them."""

    version: int = 0
    """The version of the last event."""
    position: int = 0
    """The position of the last event."""
    encrypted: int = 0
    """Number of events that are unreadable without the key."""
    plain: int = 0
    """Number of events that an earlier version of TickView recorded without encryption."""
    generation: int = 1
    """The highest generation of keys that the events name."""
    is_forgotten: bool = True
    """Whether the last event is ``UserForgotten``, or there is no event."""

    def add(self, entry: LogEntry) -> None:
        """Count the next event."""
        self.version, self.position = entry.version, entry.position
        self.is_forgotten = entry.topic == topic_of(UserForgotten)
        if is_encrypted(entry.state):
            self.encrypted += 1
        elif not self.is_forgotten:
            self.plain += 1
        self.generation = max(self.generation, _generation(entry))


@dataclass(frozen=True)
class Forgetting:
    """The outcome of forgetting a user."""

    user: str
    position: int | None
    """The position of the event ``UserForgotten`` in the log of the users. None: the user never had an event."""
    generation: int
    """The generation up to which the keys of the user are destroyed."""
    encrypted_events: int
    """Number of events that nobody can read any more."""
    plain_events: int
    """Number of events without encryption, which stay readable in the log and in the archive."""
    is_folded: bool
    """Whether the workers have folded the event into the live build. False: they do so when they run."""


def forget_user(client: RedisClient, log: EventLog, database: Database | None, user: str, stamp: Stamp) -> Forgetting:
    """Destroy the key of a user in Redis and in the archive, and erase the user's lists from Redis.

    Args:
        client: The server that has the read models.
        log: The log of the users.
        database: The archive, if there is one.
        user: The id of the user.
        stamp: The operator who gives the command, and the time.

    Raises:
        ConflictError: Other commands changed the workspace during every attempt. Nothing was forgotten.
        PersistenceError: The log or the archive cannot be used. Repeat the command.
        RedisError: Redis cannot be used. Repeat the command.
    """
    keys = UserKeys(log)
    stored = keys.read([user]).get(user)
    history = _record(log, user, stamp, stored)
    destroyed = {user: UserKey(history.generation, b"")}
    if stored or history.version:
        keys.merge(destroyed)
        if database:
            with database.connection() as connection:
                archive_keys(connection, destroyed)
    _erase_snapshots(log, user)
    is_folded = wait_until_folded(client, Workspaces.name, log.name, history.position, FOLD_SECONDS)
    erase_row(client, Workspaces.name, log.name, user, user_stream(user), history.position)
    return Forgetting(
        user=user,
        position=history.position or None,
        generation=history.generation,
        encrypted_events=history.encrypted,
        plain_events=history.plain,
        is_folded=is_folded,
    )


def _erase_snapshots(log: EventLog, user: str) -> None:
    """Erase the snapshots of a user in all formats. Those of the first format are not encrypted."""
    keys = [snapshots_key(log.name, schema) for schema in range(1, SCHEMA + 1)]

    def erase(node: Redis) -> None:
        for key in keys:
            node.hdel(key, user)

    run_on_key_node(log.client, keys[0], erase)


def _record(log: EventLog, user: str, stamp: Stamp, stored: UserKey | None) -> UserHistory:
    """Record that the user is forgotten, unless this is the last event of the user. Return the history with it."""
    for _ in range(MAX_ATTEMPTS):
        history = _read_history(log, user)
        if stored:
            history.generation = max(history.generation, stored.generation)
        if history.is_forgotten:
            return history
        event = UserForgotten(
            event_id="", occurred_at=stamp.at, source=stamp.source, user=user, generation=history.generation
        )
        version = history.version + 1
        new = NewEvent(event.stream, topic_of(UserForgotten), encode(event), expected_version=version, origin="cli")
        try:
            [appended] = log.append([new])
        except VersionConflictError:
            continue
        history.version, history.position = version, appended.position
        return history
    raise ConflictError("Other requests are changing the lists of this user at the same time. Repeat the command.")


def _read_history(log: EventLog, user: str) -> UserHistory:
    history = UserHistory()
    while batch := log.read_stream(user_stream(user), gt=history.version, limit=READ_BATCH):
        for entry in batch:
            history.add(entry)
    history.encrypted += _count_alerts(log, user)
    return history


def _count_alerts(log: EventLog, user: str) -> int:
    """Return the number of events about delivered alerts of a user. All of them are encrypted."""
    newest = log.read_stream(alerts_stream(user), desc=True, limit=1)
    return newest[0].version if newest else 0


def _generation(entry: LogEntry) -> int:
    """Return the generation of keys that an event names. 0 if it names none."""
    try:
        if is_encrypted(entry.state):
            return generation_of(entry.state)
        if entry.topic == topic_of(UserForgotten):
            event = decode(entry.topic, entry.event_id, entry.state)
            assert isinstance(event, UserForgotten)
            return event.generation
    except (DecryptionError, ValueError):  # An unreadable event does not prevent that the user is forgotten.
        pass
    return 0
