"""Commands that are sent at once, and whose replies are read when the caller needs them.

A redis-py client sends a command and reads its reply in one call. Sent commands therefore take a connection from the
client's pool for themselves: the caller works, or sends further commands, while the server executes these.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.connection import Connection, ConnectionPool, PythonRespSerializer
from redis.exceptions import ResponseError

from infra.redis.cluster import node_of_key
from infra.redis.connections import CONNECTION_ERRORS, RedisClient
from infra.redis.functions import Argument

LARGE_BYTES = 16_384
"""Number of bytes of a word above which the word is sent from where it is. hiredis would copy it into new memory, which
takes 3 ms of processor time for the megabyte of a commit."""


class SentCommands:
    """Commands on a separate connection, sent by the constructor unless the server cannot be reached.

    Args:
        client: The client whose connections are used.
        key: A key of the commands. They go to its server.
        commands: The words of each command.
    """

    def __init__(self, client: RedisClient, key: str, commands: Sequence[Sequence[Argument]]) -> None:
        self._number = len(commands)
        self._replies: list[Any] | None = None
        self._pool: ConnectionPool | None = None
        self._connection: Connection | None = None
        with suppress(*CONNECTION_ERRORS):
            self._pool = node_of_key(client, key).connection_pool
            self._connection = self._pool.get_connection()
            try:
                self._connection.send_packed_command(_pack(self._connection, commands))
            except BaseException:
                self._close()
                raise

    def __del__(self) -> None:
        self._close()

    def receive(self) -> list[Any] | None:
        """Wait for the replies. The commands occupy a connection until then. A second call returns the same replies.

        Returns:
            The replies as the server sends them. An error is its reply. None: the connection is lost, and the server
            may have executed the commands.
        """
        connection, pool = self._connection, self._pool
        if connection is None or pool is None:
            return self._replies
        try:
            self._replies = [_read_reply(connection) for _ in range(self._number)]
        except CONNECTION_ERRORS:
            self._close()
            return None
        self._connection = None
        pool.release(connection)
        return self._replies

    def _close(self) -> None:
        """Close the connection of commands that were given up: a late reply must not be taken for another reply."""
        if self._connection is not None and self._pool is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None


def _pack(connection: Connection, commands: Sequence[Sequence[Argument]]) -> list[Any]:
    """Return the bytes of the commands, in parts."""
    is_large = any(len(word) > LARGE_BYTES for words in commands for word in words if isinstance(word, bytes))
    if not is_large:
        packed: list[Any] = connection.pack_commands(commands)
        return packed
    serializer = PythonRespSerializer(LARGE_BYTES, connection.encoder.encode)
    return [part for words in commands for part in serializer.pack(*words)]


def _read_reply(connection: Connection) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
