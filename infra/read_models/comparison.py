"""Compares two builds of a read model row by row, while workers go on folding both."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import orjson
from redis import Redis

from infra.processes.errors import StartupError
from infra.read_models.keys import SegmentKeys
from projections.base import Projection
from projections.ports import Segment
from projections.versions import Build

ROWS_AT_ONCE = 500

POLL_SECONDS = 0.01


class Difference(NamedTuple):
    """One field of a row, in JSON values, as the two builds have it."""

    key: str
    field: str
    """Empty where only one of the builds has the row: ``old`` or ``new`` is the whole row, the other one None."""
    old: Any
    new: Any


class NotComparableError(StartupError):
    """The builds do not come to the same position; the message says where they are and what to do."""


def compare(
    client: Redis,
    projection: Projection[Any, Any],
    logs: Sequence[str],
    one: Build,
    other: Build,
    *,
    progress: Callable[[int, int], None],
    standstill_seconds: float = 30.0,
) -> Iterator[Difference]:
    """Every field in which a row of ``other``, the new, is not what it is in ``one``, the old; each row once.

    Rows are compared as of one position of their log, whatever the workers do meanwhile. A look at rows of both builds
    and at both checkpoints is atomic. Where the checkpoints are equal, both builds have folded the same events. Where
    one build is ahead, its row is what it was at the checkpoint behind if the row's position, at which it last
    changed, is not past that. A row of which neither holds is looked at again until one does: equal rows too, for what
    is equal only because one build is behind may be different. Rows that come while the comparison runs may be missed:
    all that were there at its start are compared.

    A field that one side does not have counts as null. ``position`` is not compared: it says which event changed the
    row, not what the row says. 1 and 1.0 differ. In memory are, for one log at a time, the keys of the rows that
    differ, and of other rows 500 or so. ``progress`` is told after each batch how many rows have been compared and how
    many there are to compare, those of both builds added up. Raises NotComparableError after ``standstill_seconds`` in
    which no row became comparable: nobody folds one of the builds, or a row changes without a pause.
    """
    pairs = [_Pair(*(SegmentKeys(Segment(projection.name, build, log)) for build in (one, other))) for log in logs]
    with client.pipeline(transaction=False) as pipeline:
        for pair in pairs:
            pipeline.hlen(pair.old.rows)
            pipeline.hlen(pair.new.rows)
        total = sum(pipeline.execute())
    done = 0
    for pair in pairs:
        differing: set[bytes] = set()
        for segment in pair:
            for keys in _scan(client, segment.rows):
                for key, old, new in _comparable_rows(
                    client, pair, [key for key in keys if key not in differing], standstill_seconds
                ):
                    if found := list(_differences(key, old, new)):
                        differing.add(key)
                        yield from found
                done += len(keys)
                progress(done, max(done, total))


class _Pair(NamedTuple):
    """The segments of the two builds on one log."""

    old: SegmentKeys
    new: SegmentKeys


@dataclass
class _Side:
    """What one build has of some rows, and the checkpoint at which it has it."""

    checkpoint: int
    rows: list[bytes | None]


def _scan(client: Redis, rows: str) -> Iterator[list[bytes]]:
    """All keys of a hash in parts; a key may come more than once."""
    keys = iter(client.hscan_iter(rows, count=ROWS_AT_ONCE))
    while part := [key for key, _ in islice(keys, ROWS_AT_ONCE)]:
        yield part


def _comparable_rows(
    client: Redis, pair: _Pair, keys: list[bytes], standstill_seconds: float
) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
    """Each key with the rows of both builds as of one position, as soon as there is one."""
    deadline = time.monotonic() + standstill_seconds
    while keys:
        old, new = _look(client, pair, keys)
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
                "see that workers run, or compare while fewer events arrive"
            )
        if undecided:
            time.sleep(POLL_SECONDS)
        keys = undecided


def _look(client: Redis, pair: _Pair, keys: list[bytes]) -> list[_Side]:
    """Both builds' rows and checkpoints at one moment: all keys of a log's segments are in one slot."""
    with client.pipeline(transaction=True) as pipeline:
        for segment in pair:
            pipeline.hget(segment.state, "checkpoint")
            pipeline.hmget(segment.rows, keys)
        replies = pipeline.execute()
    return [_Side(int(replies[at] or 0), replies[at + 1]) for at in (0, 2)]


def _are_comparable(old: bytes | None, new: bytes | None, old_checkpoint: int, new_checkpoint: int) -> bool:
    """Whether both rows are as of one position; two that are gone have nothing to compare."""
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
        was, shall_be = before.get(field), after.get(field)
        if _canonical(was) != _canonical(shall_be):
            yield Difference(name, field, was, shall_be)


def _values(document: bytes | None) -> dict[str, Any] | None:
    if document is None:
        return None
    values: dict[str, Any] = orjson.loads(document)
    del values["position"]
    return values


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
