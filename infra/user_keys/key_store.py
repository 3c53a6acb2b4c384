"""The keys of users in Redis, beside the log of the users."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from domain.codec import decode, encode, is_encrypted, topic_of
from domain.log import LogEntry
from domain.streams import user_of
from domain.user_events import UserForgotten
from infra.log.handle import LogHandle
from infra.log.keys import tagged_key
from infra.redis.cluster import run_on_key_node
from infra.redis.functions import Argument
from infra.user_keys.encryption import DecryptionError, Place, UserKey, decrypt, generation_of


class UserKeys:
    """The keys in a Redis hash in the slot of the log. They are as durable as the events of the log.

    Attributes:
        key: The name of the hash. Its fields are ids of users; ``parse_key`` reads their values.
    """

    def __init__(self, log: LogHandle) -> None:
        self.key = tagged_key(log.name, "keys")
        self._log = log

    def read(self, users: Collection[str]) -> dict[str, UserKey]:
        """Read the keys of users, in one round trip. Users without a key are missing from the result."""
        names = list(users)
        if not names:
            return {}
        values: Any = run_on_key_node(self._log.client, self.key, lambda node: node.hmget(self.key, names))
        return {user: parse_key(value) for user, value in zip(names, values, strict=True) if value is not None}

    def merge(self, keys: Mapping[str, UserKey]) -> dict[str, UserKey]:
        """Merge keys into the stored keys, and return the keys that are stored now.

        A higher generation replaces a lower one, and a destroyed key replaces the key of the same generation.
        """
        if not keys:
            return {}
        return dict(zip(keys, self._merge(keys, must_be_open=False), strict=True))

    def for_writing(self, user: str, stored: UserKey | None, lowest: int) -> UserKey | None:
        """Return the key for the next events of a user. Create the key if there is none.

        Args:
            user: The id of the user.
            stored: The stored key, if there is one.
            lowest: The lowest generation that the key may have.

        Returns:
            The key. None if the log must be opened and everything be read again: its server may have lost keys, or the
            user is being forgotten.
        """
        if stored and stored.secret and stored.generation >= lowest:
            return stored
        if stored and not stored.secret:
            lowest = max(lowest, stored.generation + 1)
        merged = self._merge({user: UserKey.create(lowest)}, must_be_open=True)
        return merged[0] if merged and merged[0].secret else None

    def _merge(self, keys: Mapping[str, UserKey], *, must_be_open: bool) -> list[UserKey]:
        arguments: list[Argument] = [int(must_be_open)]
        for user, (generation, secret) in keys.items():
            arguments += (user, generation, secret)
        stored = self._log.functions.call("merge_user_keys", [self.key, self._log.keys.meta], arguments)
        return list(map(parse_key, stored))

    def reveal(self, entries: Sequence[LogEntry]) -> list[LogEntry]:
        """Return the entries with decrypted states. Keys are read in one round trip, if any state is encrypted.

        An entry whose key is destroyed is returned as the event ``UserForgotten``. A state that cannot be decrypted,
        because its key is missing or does not fit, stays as it is, and ``decode`` refuses it.
        """
        users = {user for entry in entries if is_encrypted(entry.state) and (user := user_of(entry.stream))}
        keys = self.read(users)
        return [reveal(entry, keys.get(user_of(entry.stream) or "")) for entry in entries] if keys else list(entries)


def parse_key(value: bytes) -> UserKey:
    """Parse a stored key, ``<generation> <secret>``."""
    generation, _, secret = value.partition(b" ")
    return UserKey(int(generation), secret)


def reveal(entry: LogEntry, key: UserKey | None) -> LogEntry:
    """Return an entry with a decrypted state, as ``UserKeys.reveal`` does for many entries."""
    if key is None or not is_encrypted(entry.state):
        return entry
    try:
        generation = generation_of(entry.state)
        if key.is_destroyed(generation):
            return _forgotten(entry, generation)
        return entry._replace(state=decrypt(key, Place(entry.stream, entry.version, entry.topic), entry.state))
    except DecryptionError:
        return entry


def _forgotten(entry: LogEntry, generation: int) -> LogEntry:
    """Return the entry that stands for an entry whose key is destroyed."""
    event = UserForgotten(
        event_id=entry.event_id,
        occurred_at=entry.recorded_at,
        source="tickview",
        user=user_of(entry.stream) or "",
        generation=generation,
    )
    return entry._replace(topic=topic_of(UserForgotten), state=encode(event))


def destroyed_keys(entries: Iterable[LogEntry]) -> dict[str, UserKey]:
    """Return the last key that each user has lost by an event ``UserForgotten`` among the entries."""
    destroyed: dict[str, UserKey] = {}
    for entry in entries:
        if entry.topic != topic_of(UserForgotten):
            continue
        try:
            event = decode(entry.topic, entry.event_id, entry.state)
        except ValueError:  # Only a foreign program can have recorded it. It forgets nobody.
            continue
        if isinstance(event, UserForgotten) and event.user == user_of(entry.stream):
            destroyed[event.user] = UserKey(event.generation, b"")
    return destroyed
