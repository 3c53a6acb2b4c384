"""The read models' store in Redis: what a batch needs in one round trip or two, its commit in one."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson
from redis import Redis

from domain.log import LogEntry
from infra.functions import Argument, call, command, with_functions
from infra.read_models.keys import SegmentKeys
from projections.base import Projection, decode_row
from projections.fold import Loaded, Mutations, Parked
from projections.ports import Lease, Outcome, Progress, Segment

WORDS_PER_COMMAND = 4_000
"""Below what Lua can unpack into one call."""

CHANGES_KEPT = 100_000
"""About how many changes of rows a segment's ``changes`` keep for those who follow it."""

Command = tuple[str, str, Sequence[Argument]]
"""Name, key, and what comes after the key."""


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
    ) -> Loaded:
        """What is held of these rows and of the rows of these groups, and which of ``parkable`` are parked."""
        names = SegmentKeys(segment)
        row_keys, group_names, parkable_keys = list(keys), list(groups), list(parkable)
        asked = ((names.rows, row_keys), (names.groups, group_names), (names.parked, parkable_keys))
        with self._client.pipeline(transaction=False) as pipeline:
            for key, wanted in asked:
                if wanted:
                    pipeline.hmget(key, wanted)
            replies = iter(pipeline.execute())
        documents, members, errors = (next(replies) if wanted else [] for _, wanted in asked)
        loaded = Loaded(
            groups={
                name: set(value.decode().split("\n"))
                for name, value in zip(group_names, members, strict=True)
                if value is not None
            },
            parked={key for key, error in zip(parkable_keys, errors, strict=True) if error is not None},
        )
        others = [key for group in loaded.groups.values() for key in group if key not in keys]
        if others:
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hmget(names.rows, others)
                pipeline.hmget(names.parked, others)
                other_documents, other_errors = pipeline.execute()
            row_keys += others
            documents += other_documents
            loaded.parked |= {key for key, error in zip(others, other_errors, strict=True) if error is not None}
        loaded.rows = {
            key: decode_row(projection.row, document)
            for key, document in zip(row_keys, documents, strict=True)
            if document is not None
        }
        return loaded

    def commit(self, lease: Lease, progress: Progress, mutations: Mutations) -> Outcome:
        """Make the changes and move the checkpoint, the lease's too, all or nothing."""
        names = SegmentKeys(lease.segment)
        state: list[Argument] = ["checkpoint", progress.position, "recorded_at", progress.recorded_at]
        state += ["committed_at", time.time(), "events_per_second", progress.events_per_second]
        commands: list[Command] = [("HSET", names.state, state), *_commands(names, mutations, progress.position)]
        outcome = self.run(lease, progress.position, commands)
        if outcome in (Outcome.COMMITTED, Outcome.ALREADY_THERE):
            lease.checkpoint = progress.position
        return outcome

    def run(self, lease: Lease, position: int, commands: Iterable[Command]) -> Outcome:
        """Run write commands that lead from the lease's checkpoint to ``position``, all or none, behind the fence."""
        key_numbers = {SegmentKeys(lease.segment).state: 1}
        arguments: list[Argument] = [lease.epoch, lease.checkpoint, position]
        for name, key, words in commands:
            arguments += (name, key_numbers.setdefault(key, len(key_numbers) + 1), len(words))
            arguments += words
        reply = call(self._client, "commit", list(key_numbers), arguments)
        return Outcome(reply.decode())

    def parked_entries(self, segment: Segment, key: str, limit: int) -> list[LogEntry]:
        """The first events that are parked under ``key``, in order."""
        packed: Any = self._client.lrange(SegmentKeys(segment).parked_events(key), 0, limit - 1)
        return [_unpack(one) for one in packed]

    def commit_retry(self, lease: Lease, key: str, done: int, mutations: Mutations) -> Outcome:
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
        return self.run(lease, lease.checkpoint, commands)

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

    def release(self, lease: Lease) -> None:
        """Give the lease back, so that another owner need not wait for its end."""
        names = SegmentKeys(lease.segment)
        call(self._client, "lease", [names.state, names.retry], [lease.owner, 0])


def _commands(names: SegmentKeys, mutations: Mutations, position: int) -> Iterator[Command]:
    """The write commands of a commit, as few and as long as they can be."""
    written: list[Argument] = []
    removed: list[str] = []
    for key, document in mutations.rows.items():
        if document is None:
            removed.append(key)
        else:
            written += (key, document)
    yield from _in_parts("HSET", names.rows, written, 2)
    yield from _in_parts("HDEL", names.rows, removed, 1)
    for (name, group), members in mutations.index_removals.items():
        yield from _in_parts("ZREM", names.index(name, group), members, 1)
    for (name, group), scores in mutations.index_additions.items():
        pairs: list[Argument] = []
        for member, score in scores.items():
            pairs += (repr(score), member)
        yield from _in_parts("ZADD", names.index(name, group), pairs, 2)
    for (name, group), change in mutations.counts.items():
        yield "ZINCRBY", names.count(name), [change, group]
    for group, keys in mutations.groups.items():
        if keys:
            yield "HSET", names.groups, [group, "\n".join(sorted(keys))]
        else:
            yield "HDEL", names.groups, [group]
    yield from _parking(names, mutations.parked)
    yield "XADD", names.changes, _changes_entry(mutations, position)


def _in_parts(name: str, key: str, words: Sequence[Argument], step: int) -> Iterator[Command]:
    size = WORDS_PER_COMMAND // step * step
    for start in range(0, len(words), size):
        yield name, key, words[start : start + size]


def _parking(names: SegmentKeys, parked: Iterable[Parked]) -> Iterator[Command]:
    for one in parked:
        if one.error is not None:
            yield "HSET", names.parked, [one.key, _parked_note(one)]
        yield "RPUSH", names.parked_events(one.key), [_pack(one.entry)]


def _pack(entry: LogEntry) -> bytes:
    return orjson.dumps([*entry[:-1], entry.state.decode()])


def _unpack(packed: bytes) -> LogEntry:
    position, stream, version, topic, event_id, recorded_at, state = orjson.loads(packed)
    return LogEntry(position, stream, version, topic, event_id, recorded_at, state.encode())


def _parked_note(parked: Parked) -> bytes:
    entry = parked.entry
    return orjson.dumps({"error": parked.error, "position": entry.position, "since": entry.recorded_at})


def _changes_entry(mutations: Mutations, position: int) -> list[Argument]:
    rows = b",".join(b"[%b,%b]" % (orjson.dumps(key), document or b"null") for key, document in mutations.rows.items())
    keep = max(100, min(10_000, CHANGES_KEPT // max(1, len(mutations.rows))))
    return ["MAXLEN", "~", keep, f"{position}-*", "rows", b"[%b]" % rows]
