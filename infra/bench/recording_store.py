"""A read-model store that records the commands of its commits, so that a benchmark can run them without TickView."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from redis import Redis
from redis.connection import Connection

from infra.read_models.commit_commands import Command
from infra.read_models.pending_commit import RedisCommit
from infra.read_models.store import RedisStore
from projections.ports import Lease


class RecordingStore(RedisStore):
    """A store that keeps the commands of its commits in ``commits``, the oldest commit first.

    Args:
        client: The client of the Redis server.
        max_commits: Highest number of commits in ``commits``, which then has the latest; None for no limit.
    """

    def __init__(self, client: Redis, max_commits: int | None = None) -> None:
        super().__init__(client)
        self.commits: deque[list[Command]] = deque(maxlen=max_commits)

    def send(self, lease: Lease, position: int, commands: Iterable[Command]) -> RedisCommit:
        """Record the commands and send them."""
        recorded = list(commands)
        self.commits.append(recorded)
        return super().send(lease, position, recorded)


class PackedCommands(NamedTuple):
    """Commands in the bytes that a server receives."""

    parts: list[bytes]
    number: int
    """The number of commands."""


def pack_commands(client: Redis, commands: Iterable[Command]) -> PackedCommands:
    """Pack the commands of a commit, without its checks and without the server-side function."""
    bare = [
        (name, key, *words[start : start + step])
        for name, key, words in commands
        for step in [2 if name == "ZINCRBY" else len(words)]
        for start in range(0, len(words), step)
    ]
    with _connection(client) as connection:
        return PackedCommands(list(connection.pack_commands(bare)), len(bare))


def run_packed(client: Redis, packed: PackedCommands) -> None:
    """Send commands all at once and read their replies, so that only the server has work."""
    with _connection(client) as connection:
        connection.send_packed_command(packed.parts)
        for _ in range(packed.number):
            connection.read_response()


@contextmanager
def _connection(client: Redis) -> Iterator[Connection]:
    connection = client.connection_pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()
        raise
    finally:
        client.connection_pool.release(connection)
