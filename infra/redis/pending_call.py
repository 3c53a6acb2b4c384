"""A pending call: a function call is sent at once, and its reply is read when the caller needs the reply."""

from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from infra.redis.cluster import UNREACHABLE_ERRORS, run_on_key_node
from infra.redis.connections import RedisClient
from infra.redis.functions import Argument, is_unknown_function, with_functions
from infra.redis.sent_commands import SentCommands
from infra.redis.server_errors import is_moving


class PendingCall:
    """A call of a server-side function, sent by the constructor.

    The call is repeated if its reply is lost. The function must therefore have the same effect when it is repeated.

    Args:
        client: The client whose connections are used.
        words: The words of the call (``infra.redis.functions.command``), with at least one key.
        following: The words of commands that follow on the connection of the call, and are repeated with the call.
    """

    def __init__(self, client: RedisClient, words: Sequence[Argument], *following: Sequence[Argument]) -> None:
        self._client = client
        self._commands = [words, *following]
        self._first_key = str(words[3])
        self._sent = SentCommands(client, self._first_key, self._commands)

    def wait(self) -> None:
        """Wait until the server has executed the call, or the connection is lost, without a need of the result.

        ``result`` then returns without waiting, unless the connection was lost.
        """
        self._sent.receive()

    def result(self) -> list[Any]:
        """Wait for the reply to the call, and for the replies to the following commands.

        The call occupies a connection until this method or ``wait`` returns.

        Returns:
            The replies. An error of a following command is its reply.

        Raises:
            RedisError: The server did not answer any attempt, or it refused the call.
        """
        replies = self._sent.receive()
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
