"""A pending call: a function call is sent at once, and its reply is read when the caller needs the reply.

A redis-py client sends a command and reads its reply in one call. A pending call therefore takes a connection from the
client's pool for itself: the caller works, or sends further calls, while the server executes the command.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.connection import Connection, ConnectionPool
from redis.exceptions import ResponseError

from infra.redis.cluster import UNREACHABLE_ERRORS, node_of_key, run_on_key_node
from infra.redis.connections import CONNECTION_ERRORS, RedisClient
from infra.redis.functions import Argument, is_unknown_function, with_functions
from infra.redis.server_errors import is_moving


class PendingCall:
    """A call of a server-side function, sent by the constructor.

    The call is repeated if its reply is lost. The function must therefore have the same effect when it is repeated.

    Args:
        client: The client whose connections are used.
        words: The words of the call (``infra.redis.functions.command``), with at least one key.
        following: The words of a command that concerns the writes of the call, and must follow on its connection.
            Empty: no command follows.
    """

    def __init__(self, client: RedisClient, words: Sequence[Argument], following: Sequence[Argument] = ()) -> None:
        self._client = client
        self._commands = [words, following] if following else [words]
        self._first_key = str(words[3])
        self._pool: ConnectionPool | None = None
        self._connection: Connection | None = None
        self._send()

    def __del__(self) -> None:
        """Close the connection of a call that was given up: a late reply must not be taken for that to another call."""
        if self._connection is not None and self._pool is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)

    def result(self) -> list[Any]:
        """Wait for the reply to the call, and for the reply to the following command if there is one.

        Call either this method or ``settle`` exactly once, because the call occupies a connection until then.

        Returns:
            The replies. An error of the following command is its reply.

        Raises:
            RedisError: The server did not answer any attempt, or it refused the call.
        """
        replies = self._receive()
        if replies is None or _must_repeat(replies[0]):
            # The server may or may not have executed the call. The function detects a repetition.
            replies = run_on_key_node(
                self._client,
                self._first_key,
                lambda node: with_functions(node, lambda: _execute(node, self._commands)),
            )
        if isinstance(replies[0], Exception):
            raise replies[0]
        return replies

    def settle(self) -> None:
        """Wait until the server has executed the call, or the connection is lost, without a need of the result."""
        self._receive()

    def _send(self) -> None:
        """Send the commands on a separate connection, unless the server cannot be reached."""
        with suppress(*CONNECTION_ERRORS):
            self._pool = node_of_key(self._client, self._first_key).connection_pool
            self._connection = self._pool.get_connection()
            self._connection.send_packed_command(self._connection.pack_commands(self._commands))

    def _receive(self) -> list[Any] | None:
        """Read the replies. Return None if there is no connection."""
        connection, pool = self._connection, self._pool
        if connection is None or pool is None:
            return None
        try:
            replies = [_read_reply(connection) for _ in self._commands]
        except CONNECTION_ERRORS:
            return None
        self._connection = None
        pool.release(connection)
        return replies


def _read_reply(connection: Connection) -> Any:
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


def _must_repeat(reply: Any) -> bool:
    return isinstance(reply, ResponseError) and (
        isinstance(reply, UNREACHABLE_ERRORS) or is_unknown_function(reply) or is_moving(reply)
    )


def _execute(node: Redis, commands: Sequence[Sequence[Argument]]) -> list[Any]:
    """Execute the commands on one connection. Raise the error of the first command."""
    with node.pipeline(transaction=False) as pipeline:
        for words in commands:
            pipeline.execute_command(*words)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
    if isinstance(replies[0], Exception):
        raise replies[0]
    return replies
