"""The copy of the keys of users in PostgreSQL."""

from collections.abc import Iterator, Mapping

from psycopg import Connection

from domain.codec import topic_of
from domain.streams import USERS_LOG
from domain.user_events import UserForgotten
from infra.postgres.statements import load_statements
from infra.user_keys.encryption import UserKey
from infra.user_keys.key_store import UserKeys

RESTORE_BATCH = 1_000
"""Number of keys that the server restores in one step."""

_statements = load_statements(__package__)
_MERGE_KEYS = _statements["merge_keys"]
_DESTROY_FORGOTTEN_KEYS = _statements["destroy_forgotten_keys"]
_SELECT_KEYS = _statements["select_keys"]


def archive_keys(connection: Connection, keys: Mapping[str, UserKey]) -> None:
    """Merge keys into the archived keys. A destroyed key never comes back."""
    if keys:
        generations, secrets = zip(*keys.values(), strict=True)
        connection.execute(_MERGE_KEYS, [list(keys), list(generations), [secret or None for secret in secrets]])


def restore_keys(connection: Connection, keys: UserKeys) -> None:
    """Merge the archived keys into the keys in Redis, after keys that were destroyed according to the archive."""
    connection.execute(_DESTROY_FORGOTTEN_KEYS, [topic_of(UserForgotten), USERS_LOG])
    for batch in _batches(connection):
        keys.merge(batch)


def _batches(connection: Connection) -> Iterator[dict[str, UserKey]]:
    with connection.cursor(name="user_keys") as cursor:
        cursor.execute(_SELECT_KEYS)
        while rows := cursor.fetchmany(RESTORE_BATCH):
            yield {user: UserKey(generation, secret or b"") for user, generation, secret in rows}
