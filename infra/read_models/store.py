"""The read models' store in Redis: what a batch needs in one round trip or two, its commit in one."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import orjson
from redis import Redis

from domain.log import LogEntry
from infra.read_models.keys import SegmentKeys
from infra.read_models.pending_commit import RedisCommit
from infra.redis.functions import command, with_functions
from projections.base import Projection, decode_row
from projections.fold import LoadedState, Mutations, Parked
from projections.ports import CommitOutcome, Lease, Progress, Segment

WORDS_PER_COMMAND = 4_000
"""Below what Lua can unpack into one call."""

CHANGES_KEPT = 100_000
"""About how many changes of rows a segment's ``changes`` keep for those who follow it."""

Word = str | int | float
"""Never bytes: the server's MessagePack knows no binary type."""

Command = tuple[str, str, Sequence[Word]]
"""Name, key, and what comes after the key; a ZINCRBY has any number of increments and members."""


class RedisStore:
    """The store of every read model on one server."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    def load(
        self,
        projection: Projection[Any, Any],
        segment: Segment,
        keys: set[str],
        groups: set[str],
        parkable: set[str],
    ) -> LoadedState:
        """What is held of these rows and of the rows of these groups, and which of ``parkable`` are parked."""
        names = SegmentKeys(segment)
        row_keys, group_names = list(keys), list(groups)
        with self._client.pipeline(transaction=False) as pipeline:
            pipeline.hlen(names.parked)
            for key, wanted in ((names.rows, row_keys), (names.groups, group_names)):
                if wanted:
                    pipeline.hmget(key, wanted)
            parked_keys, *replies = pipeline.execute()
        documents = replies.pop(0) if row_keys else []
        members = replies.pop(0) if group_names else []
        loaded = LoadedState(
            groups={
                name: set(value.decode().split("\n"))
                for name, value in zip(group_names, members, strict=True)
                if value is not None
            }
        )
        others = [key for group in loaded.groups.values() for key in group if key not in keys]
        if others:
            row_keys += others
            documents += self._client.hmget(names.rows, others)
        if parked_keys:  # seldom any: asking for each key would double what is asked for
            asked = [*parkable, *others]
            errors: Any = self._client.hmget(names.parked, asked) if asked else []
            loaded.parked = {key for key, error in zip(asked, errors, strict=True) if error is not None}
        loaded.rows = {
            key: decode_row(projection.row, document)
            for key, document in zip(row_keys, documents, strict=True)
            if document is not None
        }
        return loaded

    def begin_commit(self, lease: Lease, progress: Progress, mutations: Mutations) -> RedisCommit:
        """Send the changes and the new checkpoint, all or nothing. The caller can work until it needs the outcome."""
        names = SegmentKeys(lease.segment)
        state: list[Word] = ["checkpoint", progress.position, "recorded_at", progress.recorded_at]
        state += ["committed_at", time.time(), "events_per_second", progress.events_per_second]
        written = _commands(names, mutations, progress.position, progress.recorded_at)
        commands: list[Command] = [("HSET", names.state, state), *written]
        return self.send(lease, progress.position, commands)

    def send(self, lease: Lease, position: int, commands: Iterable[Command]) -> RedisCommit:
        """Send write commands that lead from the lease's checkpoint to ``position``, all or none, behind the fence."""
        key_numbers = {SegmentKeys(lease.segment).state: 1}
        packed = msgspec.msgpack.encode(
            [(name, key_numbers.setdefault(key, len(key_numbers) + 1), words) for name, key, words in commands]
        )
        words = command("commit", list(key_numbers), [lease.epoch, lease.checkpoint, position, packed])
        return RedisCommit(self._client, lease, position, words)

    def parked_entries(self, segment: Segment, key: str, limit: int) -> list[LogEntry]:
        """The first events that are parked under ``key``, in order."""
        packed: Any = self._client.lrange(SegmentKeys(segment).parked_events(key), 0, limit - 1)
        return [_unpack(one) for one in packed]

    def commit_retry(self, lease: Lease, key: str, done: int, mutations: Mutations) -> CommitOutcome:
        """Make the changes and take the first ``done`` events off those parked under ``key``; the checkpoint stays.

        What ``mutations`` still parks under ``key`` is left there with its error; a key with no event left is parked no
        more.
        """
        names = SegmentKeys(lease.segment)
        left = [parked for parked in mutations.parked if parked.key == key]
        mutations.parked = [parked for parked in mutations.parked if parked.key != key]
        events = names.parked_events(key)
        commands: list[Command] = [*_commands(names, mutations, lease.checkpoint), ("LTRIM", events, [done, -1])]
        if left:
            commands += [("HSET", names.parked, [key, _parked_note(left[0])]), ("SREM", names.retry, [key])]
        elif self._client.llen(events) == done:
            commands += [("HDEL", names.parked, [key]), ("SREM", names.retry, [key])]
        return self.send(lease, lease.checkpoint, commands).result()

    def retry_requests(self, segment: Segment) -> list[str]:
        """Some of the parked keys that an operator wants tried again."""
        keys: Any
        _, keys = self._client.sscan(SegmentKeys(segment).retry, count=100)
        return [key.decode() for key in keys]

    def lease(self, segments: Sequence[Segment], owner: str, seconds: float) -> list[Lease | None]:
        """Take or prolong the lease on each segment; None where another owner has it."""
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
        """Give the leases back, so that another owner need not wait for their end."""
        with_functions(self._client, lambda: self._release(leases))

    def _release(self, leases: Sequence[Lease]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for lease in leases:
                names = SegmentKeys(lease.segment)
                pipeline.execute_command(*command("lease", [names.state, names.retry], (lease.owner, 0)))
            pipeline.execute()


def _commands(
    names: SegmentKeys, mutations: Mutations, position: int, recorded_at: float | None = None
) -> Iterator[Command]:
    """The write commands of a commit, as few and as long as they can be."""
    written: list[Word] = []
    removed: list[str] = []
    for key, document in mutations.rows.items():
        if document is None:
            removed.append(key)
        else:
            written += (key, document.decode())
    yield from _in_parts("HSET", names.rows, written, 2)
    yield from _in_parts("HDEL", names.rows, removed, 1)
    for (name, group), members in mutations.index_removals.items():
        yield from _in_parts("ZREM", names.index(name, group), members, 1)
    for (name, group), scores in mutations.index_additions.items():
        pairs: list[Word] = []
        for member, score in scores.items():
            pairs += (score, member)
        yield from _in_parts("ZADD", names.index(name, group), pairs, 2)
    increments: dict[str, list[Word]] = defaultdict(list)
    for (name, group), change in mutations.counts.items():
        increments[name] += (change, group)
    for name, pairs in increments.items():
        yield "ZINCRBY", names.count(name), pairs
    grouped: list[Word] = []
    left: list[str] = []
    for group, keys in mutations.groups.items():
        if keys:
            grouped += (group, "\n".join(sorted(keys)))
        else:
            left.append(group)
    yield from _in_parts("HSET", names.groups, grouped, 2)
    yield from _in_parts("HDEL", names.groups, left, 1)
    yield from _parking(names, mutations.parked)
    yield "XADD", names.changes, _changes_entry(mutations, position, recorded_at)


def _in_parts(name: str, key: str, words: Sequence[Word], step: int) -> Iterator[Command]:
    size = WORDS_PER_COMMAND // step * step
    for start in range(0, len(words), size):
        yield name, key, words[start : start + size]


def _parking(names: SegmentKeys, parked: Iterable[Parked]) -> Iterator[Command]:
    for one in parked:
        if one.error is not None:
            yield "HSET", names.parked, [one.key, _parked_note(one)]
        yield "RPUSH", names.parked_events(one.key), [_pack(one.entry)]


def _pack(entry: LogEntry) -> str:
    return orjson.dumps({**entry._asdict(), "state": entry.state.decode()}).decode()


def _unpack(packed: bytes) -> LogEntry:
    values = orjson.loads(packed)
    return LogEntry(**{**values, "state": values["state"].encode()})


def _parked_note(parked: Parked) -> str:
    entry = parked.entry
    return orjson.dumps({"error": parked.error, "position": entry.position, "since": entry.recorded_at}).decode()


def _changes_entry(mutations: Mutations, position: int, recorded_at: float | None) -> list[Word]:
    told = mutations.rows if mutations.tells_rows else dict.fromkeys(mutations.rows)
    rows = b",".join(b"[%b,%b]" % (orjson.dumps(key), document or b"null") for key, document in told.items())
    keep = max(100, min(10_000, CHANGES_KEPT // max(1, len(mutations.rows))))
    entry: list[Word] = ["MAXLEN", "~", keep, f"{position}-*", "rows", f"[{rows.decode()}]"]
    return entry if recorded_at is None else [*entry, "recorded_at", recorded_at]
