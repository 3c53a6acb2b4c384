"""Statistics of ``patterns``: its counts in Redis, minus the rows that have expired but are still counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from infra.read_models.keys import SegmentKeys
from infra.redis.functions import command, with_functions_async
from projections.base import read_row
from projections.patterns import ActivePatterns, PatternRow
from projections.placement import placement_of
from projections.queries import MAX_GROUPS, TOP_SYMBOLS, PatternStatistics, most_frequent

COUNTS = ("by_symbol", "by_type", "by_tier", "by_confidence", "all", "high_confidence")
"""The counts to read. ``statistics.lua`` expects ``by_symbol`` as the first count."""


@dataclass
class _Tally:
    """The counts by name, and the rows to subtract."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in COUNTS})
    symbols: int = 0
    expired: list[PatternRow] = field(default_factory=list)


async def read_statistics(client: Redis, segments: Sequence[SegmentKeys], now: float) -> PatternStatistics:
    """Read the counts of the patterns that are active at ``now`` (epoch seconds).

    One round trip suffices for up to ``MAX_GROUPS`` expired rows per segment that the expirer has not removed yet. The
    counts are exact for up to ``MAX_GROUPS`` types, tiers and expired rows per segment. Beyond, the counts of the most
    frequent groups are exact.
    """
    replies = await _read_segments(client, segments, now, 0)
    tally = _Tally()
    for _, _, symbols, *counts in replies:
        tally.symbols += counts[0][0]
        for name, (_, *groups) in zip(COUNTS, counts, strict=True):
            tally.counts[name].update(_pairs(groups))
        tally.counts["by_symbol"] |= Counter(_pairs(symbols))
    offset = 0
    while any(documents for _, documents, *_ in replies):
        tally.expired += _rows(replies)
        offset += MAX_GROUPS
        if all(expired <= offset for expired, *_ in replies):
            break
        replies = await _read_segments(client, segments, now, offset)
        for _, _, symbols, *_ in replies:
            tally.counts["by_symbol"] |= Counter(_pairs(symbols))
    return _subtract_expired(tally)


async def _read_segments(client: Redis, segments: Sequence[SegmentKeys], now: float, offset: int) -> list[list[Any]]:
    async def read() -> list[list[Any]]:
        async with client.pipeline(transaction=False) as pipeline:
            for names in segments:
                keys = [names.rows, names.index("expiry"), *(names.count(name) for name in COUNTS)]
                arguments = (now, offset, MAX_GROUPS, TOP_SYMBOLS)
                pipeline.execute_command(*command("statistics", keys, arguments, read_only=True))
            replies: list[list[Any]] = await pipeline.execute()
            return replies

    return await with_functions_async(client, read)


def _pairs(flat: Sequence[bytes]) -> dict[str, int]:
    return {name.decode(): int(float(count)) for name, count in zip(flat[::2], flat[1::2], strict=True)}


def _rows(replies: Sequence[list[Any]]) -> list[PatternRow]:
    return [read_row(PatternRow, document).row for _, documents, *_ in replies for document in documents]


def _subtract_expired(tally: _Tally) -> PatternStatistics:
    names = [count.name for count in ActivePatterns.summaries]
    for row in tally.expired:
        for name, group in zip(names, placement_of(ActivePatterns(), row).counts, strict=True):
            if group is not None:
                tally.counts[name][group] -= 1
    counts = tally.counts
    without_rows = sum(count <= 0 for count in counts["by_symbol"].values())
    return PatternStatistics(
        total=counts["all"][""],
        high_confidence=counts["high_confidence"][""],
        by_type=most_frequent(counts["by_type"]),
        by_tier=most_frequent(counts["by_tier"]),
        by_confidence=most_frequent(counts["by_confidence"]),
        by_symbol=most_frequent(counts["by_symbol"], TOP_SYMBOLS),
        symbols=tally.symbols - without_rows,
    )
