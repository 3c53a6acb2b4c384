"""A read-model store that records the commands of its commits, so that a benchmark can run them without TickView."""

from collections import deque
from collections.abc import Iterable

from redis import Redis

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


def run_commands(client: Redis, commands: Iterable[Command]) -> None:
    """Run commands in one pipeline, without the checks of a commit."""
    with client.pipeline(transaction=False) as pipeline:
        for name, key, words in commands:
            step = 2 if name == "ZINCRBY" else len(words)
            for start in range(0, len(words), step):
                pipeline.execute_command(name, key, *words[start : start + step])
        pipeline.execute()
