"""Reads what is committed to one build of a read model, commit by commit, from the ``changes`` of its segments."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from redis.asyncio import Redis

from domain.errors import TickViewError
from infra.read_models.keys import SegmentKeys
from projections.ports import Segment
from projections.queries import Positions
from projections.versions import Build
from readapi.ports.commits import Commit, CommitId, CommitIds, RowChange

KEPT_ROWS = 2_000
"""About so many past changes of rows are told first, of each log."""

KEPT_AT_ONCE = 20
"""Entries of a log that are read at once to tell the past."""

Rows = list[tuple[str, bytes | None]]
"""What became of some rows: key, and document or None."""


class LostTrackError(TickViewError):
    """A commit is missing: it is kept no more, or the server has less than it had."""


class Entry(NamedTuple):
    """One entry of ``changes``."""

    mark: CommitId
    number: int
    recorded_at: float | None
    rows: Rows


_rows = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]])


def parse_entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    """An entry as it is stored."""
    rows: Rows = []
    for key, raw in _rows.decode(fields[b"rows"]):
        document = bytes(raw)
        rows.append((key, None if document == b"null" else document))
    recorded_at = fields.get(b"recorded_at")
    number = int(fields.get(b"number", 0))
    return Entry(parse_mark(entry_id), number, None if recorded_at is None else float(recorded_at), rows)


def parse_mark(entry_id: bytes) -> CommitId:
    """The mark that an entry's id is."""
    position, number = entry_id.split(b"-")
    return CommitId(int(position), int(number))


class Course:
    """The commits to one build, in order for each log, from where it is begun on."""

    def __init__(self, read_model: str, build: Build, logs: Sequence[str]) -> None:
        self.build = build
        self.keys = {log: SegmentKeys(Segment(read_model, build, log)) for log in logs}
        self.marks: dict[str, CommitId] = dict.fromkeys(logs, CommitId(0, 0))
        """The last commit that was told of each log."""
        self._numbers: dict[str, int] = dict.fromkeys(logs, 0)
        self._logs = {keys.changes.encode(): log for log, keys in self.keys.items()}

    async def begin(self, client: Redis) -> None:
        """Begin behind what is committed now."""
        async with client.pipeline(transaction=False) as pipeline:
            for keys in self.keys.values():
                pipeline.hmget(keys.state, "checkpoint", "changes")
                pipeline.xrevrange(keys.changes, count=1)
            replies = await pipeline.execute()
        for log, (checkpoint, changes), entries in zip(self.keys, replies[::2], replies[1::2], strict=True):
            last = parse_entry(*entries[0]) if entries else None
            self.marks[log] = last.mark if last else CommitId(int(checkpoint or 0))
            self._numbers[log] = (last and last.number) or int(changes or 0)

    def check(self, checkpoints: Iterable[bytes | None]) -> None:
        """See that the server has the last commit told, or a later one: its checkpoints. Raises LostTrackError."""
        for (log, mark), checkpoint in zip(self.marks.items(), checkpoints, strict=True):
            if int(checkpoint or 0) < mark.position:
                raise LostTrackError(f"{log} is at {int(checkpoint or 0)}, and was at {mark.position} before")

    async def past(self, client: Redis) -> tuple[CommitIds, list[Commit]]:
        """The last commits before where it was begun, as far as they are kept, and the marks before them."""
        marks: dict[str, CommitId] = {}
        commits: list[Commit] = []
        for log in self.keys:
            oldest, *others = await self._kept(client, log)
            marks[log] = oldest.mark
            commits += [commit(self.build, log, entry) for entry in others]
        return marks, commits

    async def _kept(self, client: Redis, log: str) -> list[Entry]:
        """The last entries up to the mark, the oldest first; the first tells nothing but where the others begin."""
        entries: list[Entry] = []
        until = _text(self.marks[log])
        while sum(len(entry.rows) for entry in entries) < KEPT_ROWS:
            stored: Any = await client.xrevrange(self.keys[log].changes, until, count=KEPT_AT_ONCE)
            found = [parse_entry(*one) for one in stored]
            entries += found
            if len(found) < KEPT_AT_ONCE:
                break
            until = f"({_text(entries[-1].mark)}"
        if not entries or entries[-1].number == 1:
            entries.append(Entry(CommitId(0) if entries else self.marks[log], 0, None, []))
        return entries[::-1]

    def streams(self) -> dict[bytes, str]:
        """The streams to read, each behind which entry."""
        return {stream: _text(self.marks[log]) for stream, log in self._logs.items()}

    def take(self, stream: bytes, entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> Iterator[tuple[str, Entry]]:
        """What was read of one of the streams, entry by entry. Raises LostTrackError where one is missing."""
        log = self._logs[stream]
        for one in entries:
            entry = parse_entry(*one)
            if entry.number != self._numbers[log] + 1:
                raise LostTrackError(
                    f"commit {self._numbers[log] + 1} of {log} is kept no more; next is {entry.number}"
                )
            self.marks[log], self._numbers[log] = entry.mark, entry.number
            yield log, entry

    @property
    def positions(self) -> Positions:
        """The position up to which each log is told."""
        return {log: mark.position for log, mark in self.marks.items()}


def commit(build: Build, log: str, entry: Entry, held: Callable[[str], bytes | None] | None = None) -> Commit:
    """An entry as it is told; ``held`` knows the documents before it."""
    changes = [RowChange(key, held(key) if held else None, document) for key, document in entry.rows]
    return Commit(build, log, entry.mark, entry.recorded_at, changes, knows_old=held is not None)


def _text(mark: CommitId) -> str:
    return f"{mark.position}-{mark.number}"
