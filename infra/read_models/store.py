"""The store of the read models in Redis: rows, commits, parked events and leases."""

import time
from collections.abc import Iterable, Sequence
from secrets import token_urlsafe
from typing import Any

from domain.errors import TickViewError
from domain.log import LogEntry
from infra.read_models.commit_commands import (
    Command,
    PackedCommands,
    Word,
    build_commands,
    changes_command,
    describe_parked_key,
    pack_commands,
    unpack_entry,
)
from infra.read_models.keys import SegmentKeys
from infra.read_models.pending_commit import RedisCommit
from infra.read_models.pending_load import RedisLoad
from infra.redis.connections import RedisClient
from infra.redis.functions import Argument, command, with_functions
from projections.base import Projection
from projections.mutations import Mutations
from projections.ports import CommitOutcome, Lease, Progress, Segment

MAX_COMMIT_BYTES = 64 * 1024 * 1024
"""Size of the largest commit. Redis refuses arguments of more than 512 MB, and closes the connection."""

RETRY_BATCH = 100
"""Approximate number of parked keys to retry that one command reads."""


class CommitTooLargeError(TickViewError):
    """The changes of a commit have more than ``MAX_COMMIT_BYTES``."""


class RedisStore:
    """The store of all read models on one server.

    Args:
        client: A client that does not decode responses. It connects on first use.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    def begin_load(
        self,
        projection: Projection[Any, Any],
        segment: Segment,
        keys: set[str],
        groups: set[str],
        parkable: set[str],
    ) -> RedisLoad:
        """Request the stored state that a batch of events may change. The parameters are those of ``RedisLoad``.

        The caller can work until it needs the rows.
        """
        return RedisLoad(self._client, projection, segment, keys, groups, parkable)

    def prepare(self, segment: Segment, mutations: Mutations) -> None:
        """Pack the commands of changes, so that ``begin_commit`` need not do this."""
        names = SegmentKeys(segment)
        mutations.packed = pack_commands(build_commands(names, mutations), {names.state: 1})

    def begin_commit(self, lease: Lease, progress: Progress, mutations: Mutations) -> RedisCommit:
        """Send the changes and the new checkpoint of a batch, all or nothing.

        The caller can work until it needs the outcome.
        """
        if mutations.packed is None:
            self.prepare(lease.segment, mutations)
        names = SegmentKeys(lease.segment)
        state: list[Word] = ["checkpoint", progress.position, "recorded_at", progress.recorded_at]
        state += ["committed_at", time.time(), "events_per_second", progress.events_per_second]
        entry = changes_command(names, mutations, progress.position, progress.recorded_at)
        return self.send(lease, progress.position, [("HSET", names.state, state), entry], mutations.packed)

    def send(
        self, lease: Lease, position: int, commands: Iterable[Command], prepared: PackedCommands | None = None
    ) -> RedisCommit:
        """Send write commands that move the checkpoint of the lease to ``position``, all or none.

        The server refuses them if the lease's epoch is outdated (``infra/redis/functions/commit.lua``).

        Args:
            lease: The lease.
            position: The checkpoint to which the commands lead.
            commands: The commands.
            prepared: Further commands, which are packed already. The segment's state has the number 1.

        Raises:
            CommitTooLargeError: The commands are too large.
        """
        key_numbers = prepared.key_numbers if prepared else {SegmentKeys(lease.segment).state: 1}
        packed = pack_commands(commands, key_numbers)
        contents = [packed.content, prepared.content] if prepared else [packed.content]
        size = sum(map(len, contents))
        if size > MAX_COMMIT_BYTES:
            raise CommitTooLargeError(
                f"the changes have {size:,} bytes, and a commit at most {MAX_COMMIT_BYTES:,}: "
                "let the event change fewer or smaller rows"
            )
        # The client repeats a call whose reply is lost. A checkpoint that does not move would not reveal the repeat.
        token = token_urlsafe(12) if position == lease.checkpoint else ""
        arguments: list[Argument] = [lease.epoch, lease.checkpoint, position, token, *contents]
        return RedisCommit(self._client, lease, position, command("commit", list(packed.key_numbers), arguments))

    def parked_entries(self, segment: Segment, key: str, limit: int) -> list[LogEntry]:
        """Read the first events that are parked under a key, in order, at most ``limit``."""
        packed: Any = self._client.lrange(SegmentKeys(segment).parked_events(key), 0, limit - 1)
        return [unpack_entry(entry) for entry in packed]

    def commit_retry(self, lease: Lease, key: str, done: int, mutations: Mutations) -> CommitOutcome:
        """Commit the retry of a parked key. The checkpoint of the segment stays.

        If ``mutations`` parks the key again, the key and its remaining events stay parked, with the new error. A key
        without events is no longer parked.

        Args:
            lease: The lease on the segment.
            key: The parked key.
            done: The number of parked events that were folded and are removed from the list.
            mutations: The changes that follow from these events.
        """
        names = SegmentKeys(lease.segment)
        failed = [parked for parked in mutations.parked if parked.key == key]
        mutations.parked = [parked for parked in mutations.parked if parked.key != key]
        events = names.parked_events(key)
        commands: list[Command] = [*build_commands(names, mutations), ("LTRIM", events, [done, -1])]
        commands.append(changes_command(names, mutations, lease.checkpoint))
        if failed:
            commands += [("HSET", names.parked, [key, describe_parked_key(failed[0])]), ("SREM", names.retry, [key])]
        elif self._client.llen(events) == done:
            commands += [("HDEL", names.parked, [key]), ("SREM", names.retry, [key])]
        return self.send(lease, lease.checkpoint, commands).result()

    def retry_requests(self, segment: Segment) -> list[str]:
        """Read about ``RETRY_BATCH`` of the parked keys whose retry an operator has requested."""
        keys: Any
        _, keys = self._client.sscan(SegmentKeys(segment).retry, count=RETRY_BATCH)
        return [key.decode() for key in keys]

    def lease(self, segments: Sequence[Segment], owner: str, seconds: float) -> list[Lease | None]:
        """Acquire or extend the lease on each segment.

        Args:
            segments: The segments.
            owner: The name of the worker.
            seconds: The duration of the leases.

        Returns:
            One lease per segment, None if another owner has the lease on the segment.
        """
        return with_functions(self._client, lambda: self._lease(segments, owner, seconds))

    def _lease(self, segments: Sequence[Segment], owner: str, seconds: float) -> list[Lease | None]:
        with self._client.pipeline(transaction=False) as pipeline:
            for names in map(SegmentKeys, segments):
                arguments = (owner, round(seconds * 1000))
                pipeline.execute_command(*command("lease", [names.state, names.retry], arguments))
            replies = pipeline.execute()
        return [
            None if reply is None else Lease(segment, owner, reply[0], reply[1], retries=reply[2] > 0)
            for segment, reply in zip(segments, replies, strict=True)
        ]

    def release(self, leases: Sequence[Lease]) -> None:
        """Release the leases, so that another owner can acquire them at once."""
        with_functions(self._client, lambda: self._release(leases))

    def _release(self, leases: Sequence[Lease]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for lease in leases:
                names = SegmentKeys(lease.segment)
                pipeline.execute_command(*command("lease", [names.state, names.retry], (lease.owner, 0)))
            pipeline.execute()
