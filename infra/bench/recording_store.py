"""A read-model store that records the commands of its commits, so that a benchmark can run them without TickView."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from redis import Redis

from infra.read_models.commit_commands import Command, PackedCommands
from infra.read_models.pending_commit import RedisCommit
from infra.read_models.store import RedisStore
from infra.redis.functions import Argument
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

    def send(
        self, lease: Lease, position: int, commands: Iterable[Command], prepared: PackedCommands | None = None
    ) -> RedisCommit:
        """Record the commands and send them."""
        recorded = list(commands)
        self.commits.append([*recorded, *(prepared.commands if prepared else ())])
        return super().send(lease, position, recorded, prepared)


def bare_commands(commands: Iterable[Command]) -> Iterator[Sequence[Argument]]:
    """Yield the commands of a commit as a server takes them, without the checks and the server-side function."""
    for name, key, words in commands:
        step = 2 if name == "ZINCRBY" else len(words)
        for start in range(0, len(words), step):
            yield [name, key, *words[start : start + step]]
