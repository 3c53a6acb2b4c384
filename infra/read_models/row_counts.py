"""The counts of a read model in Redis, minus the rows that have ended but are still counted."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from infra.read_models.keys import SegmentKeys
from infra.redis.connections import AsyncRedisClient
from infra.redis.functions import command, with_functions_async
from projections.base import ENDS_INDEX, Projection, read_row
from projections.placement import place
from projections.queries import MAX_GROUPS, Counts, most_frequent


async def read_counts(
    client: AsyncRedisClient,
    projection: Projection[Any, Any],
    segments: Sequence[SegmentKeys],
    names: Sequence[str],
    now: float,
) -> Mapping[str, Counts]:
    """Read counts of the rows that have not ended.

    One round trip suffices for up to ``MAX_GROUPS`` groups of a count per segment, and for as many ended rows that the
    expirer has not removed yet. One more round trip reads as many more. The groups and the rows are read in parts, so
    that no part keeps the server from other requests.

    Args:
        client: An asynchronous client of the server that has the read model.
        projection: The projection of the read model.
        segments: The keys of all segments.
        names: The names of the counts.
        now: The time at which rows must not have ended, in seconds since the epoch.
    """
    # A group may move between two parts while rows change. It is then read twice, and counts once.
    groups: defaultdict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    ended: list[Any] = []
    offset, has_more = 0, True
    while has_more:
        replies = await _read_part(client, segments, names, now, offset)
        for number, (_, documents, *counts) in enumerate(replies):
            ended += [read_row(projection.row, document).row for document in documents]
            for name, (_, *pairs) in zip(names, counts, strict=True):
                groups[name, number].update(_pairs(pairs))
        offset += MAX_GROUPS
        has_more = any(max([size, *(count[0] for count in counts)]) > offset for size, _, *counts in replies)
    sums = {name: Counter[str]() for name in names}
    for (name, _), numbers in groups.items():
        sums[name].update(numbers)
    _subtract(projection, sums, ended)
    return {name: _counts(numbers) for name, numbers in sums.items()}


async def _read_part(
    client: AsyncRedisClient, segments: Sequence[SegmentKeys], names: Sequence[str], now: float, offset: int
) -> list[list[Any]]:
    async def read() -> list[list[Any]]:
        async with client.pipeline(transaction=False) as pipeline:
            for segment in segments:
                keys = [segment.rows, segment.index(ENDS_INDEX), *map(segment.count, names)]
                pipeline.execute_command(*command("counts", keys, (now, offset, MAX_GROUPS), read_only=True))
            replies: list[list[Any]] = await pipeline.execute()
            return replies

    return await with_functions_async(client, read)


def _pairs(flat: Sequence[bytes]) -> dict[str, int]:
    return {name.decode(): int(float(count)) for name, count in zip(flat[::2], flat[1::2], strict=True)}


def _subtract(projection: Projection[Any, Any], sums: Mapping[str, Counter[str]], rows: Sequence[Any]) -> None:
    for (name, group), number in place(projection, {str(key): row for key, row in enumerate(rows)}).counts.items():
        if name in sums:
            sums[name][group] -= number


def _counts(numbers: Counter[str]) -> Counts:
    present = +numbers
    return Counts(most_frequent(present), present.total(), len(present))
