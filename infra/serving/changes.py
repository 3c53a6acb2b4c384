"""Commits to one build of a read model, read in order from the ``changes`` streams of its segments."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from domain.errors import TickViewError
from infra.read_models.keys import SegmentKeys
from infra.redis.connections import AsyncRedisClient
from projections.ports import Segment
from projections.queries import Positions
from projections.versions import Build
from readapi.ports.commits import Commit, CommitId, CommitIds, RowChange

RECENT_ROWS = 2_000
"""Approximate number of past row changes of each log that a listener receives when it starts with a build."""

RECENT_ENTRIES_AT_ONCE = 20
"""Highest number of stream entries that one command reads while past commits are loaded."""

Rows = list[tuple[str, bytes | None]]
"""Changed rows: key, and document or None if the row was removed."""


class CommitMissingError(TickViewError):
    """The commits cannot be read without a gap: an entry was trimmed, or the server lost data."""


class Entry(NamedTuple):
    """One entry of a ``changes`` stream."""

    id: CommitId
    number: int
    """Number of the commit in its segment. Numbers have no gaps."""
    recorded_at: float | None
    """Time at which the last folded event was recorded, in epoch seconds. None for a commit of parked events."""
    rows: Rows
    traces: tuple[str, ...] = ()
    """The traces to which the commit belongs, each as a ``traceparent``."""


_rows_decoder = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]])


def parse_entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    """Parse an entry as Redis stores it."""
    rows: Rows = []
    for key, raw in _rows_decoder.decode(fields[b"rows"]):
        document = bytes(raw)
        rows.append((key, None if document == b"null" else document))
    recorded_at = fields.get(b"recorded_at")
    number = int(fields.get(b"number", 0))
    traces = tuple(fields[b"traces"].decode().split()) if b"traces" in fields else ()
    return Entry(parse_commit_id(entry_id), number, None if recorded_at is None else float(recorded_at), rows, traces)


def parse_commit_id(entry_id: bytes) -> CommitId:
    """Parse the id of a stream entry, for example ``1234-0``."""
    position, number = entry_id.split(b"-")
    return CommitId(int(position), int(number))


class ChangesCursor:
    """A cursor over the commits to one build: the last commit read of each log."""

    def __init__(self, read_model: str, build: Build, logs: Sequence[str]) -> None:
        self.build = build
        self.keys: dict[str, SegmentKeys] = {}
        self.last_commits: dict[str, CommitId] = {}
        """Log -> id of the last commit read."""
        self._read_model = read_model
        self._numbers: dict[str, int] = {}
        self._logs: dict[bytes, str] = {}
        self.add_logs(logs)

    def add_logs(self, logs: Sequence[str]) -> None:
        """Read the commits of other logs, too, from the first one on."""
        for log in logs:
            self.keys[log] = SegmentKeys(Segment(self._read_model, self.build, log))
            self.last_commits[log] = CommitId(0, 0)
            self._numbers[log] = 0
            self._logs[self.keys[log].changes.encode()] = log

    async def start(self, client: AsyncRedisClient) -> None:
        """Move the cursor behind the last commit that exists now."""
        async with client.pipeline(transaction=False) as pipeline:
            for keys in self.keys.values():
                pipeline.hmget(keys.state, "checkpoint", "changes")
                pipeline.xrevrange(keys.changes, count=1)
            replies = await pipeline.execute()
        for log, (checkpoint, changes), entries in zip(self.keys, replies[::2], replies[1::2], strict=True):
            last = parse_entry(*entries[0]) if entries else None
            self.last_commits[log] = last.id if last else CommitId(int(checkpoint or 0))
            self._numbers[log] = (last and last.number) or int(changes or 0)

    def check_checkpoints(self, checkpoints: Iterable[bytes | None]) -> None:
        """Check that the server still has every commit that was read.

        Args:
            checkpoints: The checkpoints of the segments on the server, in the order of ``keys``.

        Raises:
            CommitMissingError: A segment is behind the last commit that was read of it.
        """
        for (log, last), checkpoint in zip(self.last_commits.items(), checkpoints, strict=True):
            if int(checkpoint or 0) < last.position:
                raise CommitMissingError(
                    f"{log} has checkpoint {int(checkpoint or 0)}, but was at {last.position} before"
                )

    async def recent_commits(self, client: AsyncRedisClient) -> tuple[CommitIds, list[Commit]]:
        """Read the commits that lead up to the cursor, as far as the streams still have them.

        Returns:
            The id of the commit before the first returned commit, by log, and the commits.
        """
        before: dict[str, CommitId] = {}
        commits: list[Commit] = []
        for log in self.keys:
            oldest, *others = await self._recent_entries(client, log)
            before[log] = oldest.id
            commits += [commit(self.build, log, entry) for entry in others]
        return before, commits

    async def _recent_entries(self, client: AsyncRedisClient, log: str) -> list[Entry]:
        """Read the last entries up to the cursor, oldest first. Only the id of the first entry is of use."""
        entries: list[Entry] = []
        rows, count = 0, 1
        until = _entry_id(self.last_commits[log])
        while rows < RECENT_ROWS:
            reply: Any = await client.xrevrange(self.keys[log].changes, until, count=count)
            page = [parse_entry(*stored) for stored in reply]
            entries += page
            if len(page) < count:
                break
            until = f"({_entry_id(entries[-1].id)}"
            rows += sum(len(entry.rows) for entry in page)
            # The entries of a replay have a thousand rows. Many at once would take tens of megabytes.
            count = min(2 * count, RECENT_ENTRIES_AT_ONCE)
        if not entries or entries[-1].number == 1:
            entries.append(Entry(CommitId(0) if entries else self.last_commits[log], 0, None, []))
        return entries[::-1]

    def streams(self) -> dict[bytes, str]:
        """Return the streams to read, each with the id of the last entry read: the argument of XREAD."""
        return {stream: _entry_id(self.last_commits[log]) for stream, log in self._logs.items()}

    def advance(
        self, stream: bytes, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]
    ) -> Iterator[tuple[str, Entry]]:
        """Move the cursor over the entries that XREAD returned for one stream. Yield the log and each entry.

        Raises:
            CommitMissingError: An entry is not the direct successor of the entry before.
        """
        log = self._logs[stream]
        for stored in entries:
            entry = parse_entry(*stored)
            if entry.number != self._numbers[log] + 1:
                raise CommitMissingError(
                    f"commit {self._numbers[log] + 1} of {log} is no longer in the stream; the next is {entry.number}"
                )
            self.last_commits[log], self._numbers[log] = entry.id, entry.number
            yield log, entry

    @property
    def positions(self) -> Positions:
        """The position up to which the commits of each log were read."""
        return {log: last.position for log, last in self.last_commits.items()}


def commit(build: Build, log: str, entry: Entry, changes: Sequence[RowChange] | None = None) -> Commit:
    """Build the commit for a stream entry.

    Args:
        build: The build that the entry belongs to.
        log: The log that the entry belongs to.
        entry: The stream entry.
        changes: The changes with the old documents. None if the old documents are unknown.
    """
    knows_old = changes is not None
    if changes is None:
        changes = [RowChange(key, None, document) for key, document in entry.rows]
    return Commit(build, log, entry.id, entry.recorded_at, changes, knows_old, entry.traces)


def _entry_id(commit_id: CommitId) -> str:
    return f"{commit_id.position}-{commit_id.number}"
