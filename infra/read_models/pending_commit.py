"""A pending commit: the command is sent at once, and its reply is read when the caller needs the outcome.

A redis-py client sends a command and reads its reply in one call. A commit therefore takes a connection from the
client's pool for itself: the caller works between the two halves while the server executes the command.
"""

from collections.abc import Sequence
from typing import Any

from redis.connection import Connection, ConnectionPool
from redis.exceptions import ResponseError

from infra.redis.cluster import node_of_key
from infra.redis.connections import CONNECTION_ERRORS, RedisClient
from infra.redis.functions import Argument, execute, is_unknown_function
from infra.redis.server_errors import is_moving
from projections.ports import CommitOutcome, Lease


class RedisCommit:
    """One call of the server-side function ``commit``, sent by the constructor.

    A call that moves the checkpoint can be repeated safely: the repetition finds the checkpoint at its target.

    Args:
        client: The client whose connections are used.
        lease: The lease on the segment. Its checkpoint follows the commit.
        position: The checkpoint to which the commit leads.
        words: The words of the command.
    """

    def __init__(self, client: RedisClient, lease: Lease, position: int, words: Sequence[Argument]) -> None:
        self._client = client
        self._lease = lease
        self._position = position
        self._words = words
        self._pool: ConnectionPool | None = None
        self._connection = self._send()

    def result(self) -> CommitOutcome:
        """Wait for the outcome. If the segment is at the new checkpoint now, move the lease's checkpoint too.

        Call this method exactly once, because the commit occupies a connection until then.

        Raises:
            RedisError: The server did not answer any attempt, or it refused the command.
        """
        reply = self._receive()
        if reply is None:
            # The server may or may not have executed the command. The function detects a repetition.
            reply = execute(self._client, self._words)
        outcome = CommitOutcome(reply.decode())
        if outcome in (CommitOutcome.COMMITTED, CommitOutcome.ALREADY_COMMITTED):
            self._lease.checkpoint = self._position
        return outcome

    def _send(self) -> Connection | None:
        """Send the command on a separate connection. Return None if the server cannot be reached."""
        first_key = str(self._words[3])
        try:
            pool = self._pool = node_of_key(self._client, first_key).connection_pool
            connection = pool.get_connection()
        except CONNECTION_ERRORS:
            return None
        try:
            connection.send_command(*self._words)
        except BaseException as error:
            connection.disconnect()
            pool.release(connection)
            if isinstance(error, CONNECTION_ERRORS):
                return None
            raise
        return connection

    def _receive(self) -> Any:
        """Read the reply to the command. Return None if the command must be sent again."""
        connection, pool = self._connection, self._pool
        self._connection = None
        if connection is None or pool is None:
            return None
        try:
            return connection.read_response()
        except BaseException as error:
            # A late reply must not be taken for the reply to the next command.
            connection.disconnect()
            if isinstance(error, CONNECTION_ERRORS):
                return None
            if isinstance(error, ResponseError) and (is_unknown_function(error) or is_moving(error)):
                return None
            raise
        finally:
            pool.release(connection)
