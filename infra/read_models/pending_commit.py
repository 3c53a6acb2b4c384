"""A pending commit: the caller works between the sending of a commit and its outcome."""

from collections.abc import Sequence

from infra.redis.connections import RedisClient
from infra.redis.functions import Argument
from infra.redis.pending_call import PendingCall
from projections.ports import CommitOutcome, Lease


class RedisCommit:
    """One call of the server-side function ``commit``, sent by the constructor.

    The call can be repeated safely: the repetition finds the checkpoint at its target, or the token of the first call.

    Args:
        client: The client whose connections are used.
        lease: The lease on the segment. Its checkpoint follows the commit.
        position: The checkpoint to which the commit leads.
        words: The words of the command.
    """

    def __init__(self, client: RedisClient, lease: Lease, position: int, words: Sequence[Argument]) -> None:
        self._lease = lease
        self._position = position
        self._call = PendingCall(client, words)

    def result(self) -> CommitOutcome:
        """Wait for the outcome. If the segment is at the new checkpoint now, move the lease's checkpoint too.

        Call this method exactly once, because the commit occupies a connection until then.

        Raises:
            RedisError: The server did not answer any attempt, or it refused the command.
        """
        [reply] = self._call.result()
        outcome = CommitOutcome(reply.decode())
        if outcome in (CommitOutcome.COMMITTED, CommitOutcome.ALREADY_COMMITTED):
            self._lease.checkpoint = self._position
        return outcome
