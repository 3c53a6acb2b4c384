"""Comparison of two builds of a read model, row by row, while workers continue to fold both."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import orjson
from redis import Redis

from domain.errors import TickViewError
from infra.log.keys import tagged_key
from infra.read_models.keys import SegmentKeys
from infra.redis.cluster import run_on_key_node
from infra.redis.connections import RedisClient
from infra.redis.scans import scan_hash
from projections.ports import Segment
from projections.versions import Build

ROWS_PER_BATCH = 500
"""Number of rows that are compared at a time."""

POLL_SECONDS = 0.01
"""Seconds between two reads of rows that cannot be compared yet."""


class BuildPair(NamedTuple):
    """The two builds to compare."""

    old: Build
    new: Build


class Difference(NamedTuple):
    """One field of a row, with its JSON value in each build."""

    key: str
    field: str
    """Empty if only one build has the row. Then ``old`` or ``new`` is the whole row, and the other value is None."""
    old: Any
    new: Any


class NotComparableError(TickViewError):
    """The builds do not reach a common position. The message contains their positions."""


def compare_builds(
    client: RedisClient,
    read_model: str,
    logs: Sequence[str],
    builds: BuildPair,
    *,
    progress: Callable[[int, int], None],
    standstill_seconds: float = 30.0,
) -> Iterator[Difference]:
    """Find every field in which a row of the new build differs from the row of the old build.

    The comparison begins when one of the builds has folded all events that are in a log now. Two builds that have
    hardly begun would have few rows, or none, that could differ.

    Both rows are read atomically with the checkpoints of both builds, and they are compared as of one position of their
    log. If the checkpoints are equal, both builds have folded the same events. If one build is ahead, its row is
    comparable if the row's position, at which it last changed, is not past the checkpoint of the other build. All other
    rows are read again until they are comparable, even if they are equal: they may be equal only because one build is
    behind. Rows that are added during the comparison may be missed.

    A missing field counts as null. The field ``position`` is not compared, because it names the event that changed the
    row. 1 and 1.0 differ. The comparison holds in memory the keys of the differing rows of one log, and
    ``ROWS_PER_BATCH`` rows.

    Args:
        client: A client of the server that has the read model.
        read_model: The name of the read model.
        logs: The logs that the read model folds.
        builds: The old and the new build.
        progress: Called after each batch with the number of compared rows and the number of all rows, each the sum of
            both builds.
        standstill_seconds: Seconds without any comparable row after which the comparison fails.

    Raises:
        NotComparableError: No row became comparable for ``standstill_seconds``: no worker folds one of the builds, or a
            row changes without a pause.
    """
    pairs = [_SegmentPair(*(SegmentKeys(Segment(read_model, build, log)) for build in builds)) for log in logs]
    _wait_until_folded(client, dict(zip(logs, pairs, strict=True)), standstill_seconds)
    with client.pipeline(transaction=False) as pipeline:
        for pair in pairs:
            pipeline.hlen(pair.old.rows)
            pipeline.hlen(pair.new.rows)
        total = sum(pipeline.execute())
    compared = 0
    for pair in pairs:
        differing: set[bytes] = set()
        for segment in pair:
            for keys in _scan_keys(client, segment.rows):
                undecided = [key for key in keys if key not in differing]
                for key, old, new in _comparable_rows(client, pair, undecided, standstill_seconds):
                    if differences := list(_differences(key, old, new)):
                        differing.add(key)
                        yield from differences
                compared += len(keys)
                progress(compared, max(compared, total))


class _SegmentPair(NamedTuple):
    """The keys of both builds' segments on one log."""

    old: SegmentKeys
    new: SegmentKeys


@dataclass
class _RowsAtCheckpoint:
    """The rows of one build, and the checkpoint at which they were read."""

    checkpoint: int
    rows: list[bytes | None]


def _wait_until_folded(client: RedisClient, pairs: Mapping[str, _SegmentPair], standstill_seconds: float) -> None:
    """Wait until one build of each pair has folded all events that are in its log now."""
    heads = _read_numbers(client, [(tagged_key(log, "meta"), "position") for log in pairs])
    places = [(keys.state, "checkpoint") for pair in pairs.values() for keys in pair]
    deadline, last = time.monotonic() + standstill_seconds, _read_numbers(client, places)
    while any(max(old, new) < head for old, new, head in zip(last[::2], last[1::2], heads, strict=True)):
        if time.monotonic() > deadline:
            raise NotComparableError(f"no build reaches {heads}, the heads of the logs: check that workers run")
        time.sleep(POLL_SECONDS)
        checkpoints = _read_numbers(client, places)
        if checkpoints != last:
            deadline, last = time.monotonic() + standstill_seconds, checkpoints


def _read_numbers(client: RedisClient, places: Sequence[tuple[str, str]]) -> list[int]:
    with client.pipeline(transaction=False) as pipeline:
        for key, field in places:
            pipeline.hget(key, field)
        return [int(number or 0) for number in pipeline.execute()]


def _scan_keys(client: RedisClient, rows: str) -> Iterator[list[bytes]]:
    """Yield all keys of a hash in batches. HSCAN may return a key more than once."""
    keys = scan_hash(client, rows, ROWS_PER_BATCH)
    while batch := [key for key, _ in islice(keys, ROWS_PER_BATCH)]:
        yield batch


def _comparable_rows(
    client: RedisClient, pair: _SegmentPair, keys: list[bytes], standstill_seconds: float
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Yield each key with the rows of both builds, as soon as both rows are as of one position."""
    deadline = time.monotonic() + standstill_seconds
    while keys:
        old, new = _read_rows(client, pair, keys)
        undecided = []
        for key, old_row, new_row in zip(keys, old.rows, new.rows, strict=True):
            if _are_comparable(old_row, new_row, old.checkpoint, new.checkpoint):
                yield key, old_row, new_row
            else:
                undecided.append(key)
        if len(undecided) < len(keys):
            deadline = time.monotonic() + standstill_seconds
        elif time.monotonic() > deadline:
            raise NotComparableError(
                f"{len(undecided)} rows, such as {undecided[0].decode()}, could not be compared at one position: "
                f"{pair.old.prefix[:-1]} is at {old.checkpoint}, {pair.new.prefix[:-1]} at {new.checkpoint}; "
                "check that workers run, or compare while fewer events arrive"
            )
        if undecided:
            time.sleep(POLL_SECONDS)
        keys = undecided


def _read_rows(client: RedisClient, pair: _SegmentPair, keys: list[bytes]) -> list[_RowsAtCheckpoint]:
    """Read the rows and the checkpoints of both builds atomically. All keys of a log's segments are in one slot."""

    def read(node: Redis) -> list[Any]:
        with node.pipeline(transaction=True) as pipeline:
            for segment in pair:
                pipeline.hget(segment.state, "checkpoint")
                pipeline.hmget(segment.rows, keys)
            return list(pipeline.execute())

    replies = run_on_key_node(client, pair.old.state, read)
    return [_RowsAtCheckpoint(int(replies[at] or 0), replies[at + 1]) for at in (0, 2)]


def _are_comparable(old: bytes | None, new: bytes | None, old_checkpoint: int, new_checkpoint: int) -> bool:
    """Return whether both rows are as of one position. Two missing rows have nothing to compare."""
    if old_checkpoint == new_checkpoint or (old is None and new is None):
        return True
    ahead = old if old_checkpoint > new_checkpoint else new
    return ahead is not None and _position(ahead) <= min(old_checkpoint, new_checkpoint)


def _position(document: bytes) -> int:
    position: int = orjson.loads(document)["position"]
    return position


def _differences(key: bytes, old: bytes | None, new: bytes | None) -> Iterator[Difference]:
    if old == new:
        return
    name, before, after = key.decode(), _values(old), _values(new)
    if before is None or after is None:
        yield Difference(name, "", before, after)
        return
    for field in before | after:
        old_value, new_value = before.get(field), after.get(field)
        if _canonical(old_value) != _canonical(new_value):
            yield Difference(name, field, old_value, new_value)


def _values(document: bytes | None) -> dict[str, Any] | None:
    if document is None:
        return None
    values: dict[str, Any] = orjson.loads(document)
    del values["position"]
    return values


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
