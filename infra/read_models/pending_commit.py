"""A pending commit: the command is sent at once, and its reply is read when the caller needs the outcome.

A redis-py client sends a command and reads its reply in one call. A commit therefore takes a connection from the
client's pool for itself: the caller works between the two halves while the server executes the command.
"""

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.connection import Connection

from infra.redis.connections import CONNECTION_ERRORS
from infra.redis.functions import Argument, with_functions
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

    def __init__(self, client: Redis, lease: Lease, position: int, words: Sequence[Argument]) -> None:
        self._client = client
        self._lease = lease
        self._position = position
        self._words = words
        self._connection = self._send()

    def result(self) -> CommitOutcome:
        """Wait for the outcome. If the segment is at the new checkpoint now, move the lease's checkpoint too.

        Call this method exactly once, because the commit occupies a connection until then.

        Raises:
            RedisError: The server did not answer any attempt, or it refused the command.
        """
        try:
            reply = with_functions(self._client, self._receive)
        except CONNECTION_ERRORS:
            # The server may or may not have executed the command. The function detects a repetition.
            reply = with_functions(self._client, self._receive)
        outcome = CommitOutcome(reply.decode())
        if outcome in (CommitOutcome.COMMITTED, CommitOutcome.ALREADY_COMMITTED):
            self._lease.checkpoint = self._position
        return outcome

    def _send(self) -> Connection | None:
        """Send the command on a separate connection. Return None if the server cannot be reached."""
        pool = self._client.connection_pool
        try:
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
        """Read the reply to the command. Send the command again if its reply is lost."""
        connection, self._connection = self._connection, None
        if connection is None:
            return self._client.execute_command(*self._words)
        try:
            return connection.read_response()
        except BaseException:
            # A late reply must not be taken for the reply to the next command.
            connection.disconnect()
            raise
        finally:
            self._client.connection_pool.release(connection)
