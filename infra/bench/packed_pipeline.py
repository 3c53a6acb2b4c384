"""Commands that are packed before they are measured, so that the measurement shows the server and not its client."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import NamedTuple

from redis import Redis

from infra.redis.functions import Argument


class PackedBatch(NamedTuple):
    """Commands as they are sent, and their number."""

    chunks: list[bytes]
    number: int


class PackedPipeline:
    """Packs commands, and runs them on one connection, which it occupies as a context manager.

    Args:
        client: The client of the server.
    """

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection()

    def __enter__(self) -> "PackedPipeline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.disconnect()
        self._pool.release(self._connection)

    def pack(self, commands: Iterable[Sequence[Argument]]) -> PackedBatch:
        """Pack commands. Empty commands are left out."""
        words = [command for command in commands if command]
        return PackedBatch(self._connection.pack_commands(words), len(words))

    def run(self, batch: PackedBatch) -> None:
        """Run commands, and wait for their replies. Raise the first error."""
        self._connection.send_packed_command(batch.chunks)
        for _ in range(batch.number):
            self._connection.read_response()
