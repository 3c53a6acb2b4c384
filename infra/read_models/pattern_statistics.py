"""The statistics of ``patterns``: its counts in Redis, less the rows that have elapsed but are still counted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from infra.read_models.keys import SegmentKeys
from infra.redis.functions import command, with_functions_async
from projections.base import read_row
from projections.fold import placement_of
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import MAX_GROUPS, TOP_SYMBOLS, PatternStatistics, most_frequent

COUNTS = ("by_symbol", "by_type", "by_tier", "by_confidence", "all", "high_confidence")


@dataclass
class _Tally:
    """The counts by name, and the rows to take off them."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in COUNTS})
    symbols: int = 0
    elapsed: list[PatternRow] = field(default_factory=list)


async def statistics(client: Redis, segments: Sequence[SegmentKeys], now: float) -> PatternStatistics:
    """Counts of the patterns that are active at ``now``, in one round trip if few have elapsed and not been removed.

    Exact up to 1,000 types, tiers and elapsed rows of a segment; beyond, the most frequent are.
    """
    replies = await _ask(client, segments, now, 0)
    tally = _Tally()
    for _, _, symbols, *counts in replies:
        tally.symbols += counts[0][0]
        for name, (_, *groups) in zip(COUNTS, counts, strict=True):
            tally.counts[name].update(_pairs(groups))
        tally.counts["by_symbol"] |= Counter(_pairs(symbols))
    passed = 0
    while any(documents for _, documents, *_ in replies):
        tally.elapsed += _rows(replies)
        passed += MAX_GROUPS
        if all(elapsed <= passed for elapsed, *_ in replies):
            break
        replies = await _ask(client, segments, now, passed)
        for _, _, symbols, *_ in replies:
            tally.counts["by_symbol"] |= Counter(_pairs(symbols))
    return _active(tally)


async def _ask(client: Redis, segments: Sequence[SegmentKeys], now: float, passed: int) -> list[list[Any]]:
    async def ask() -> list[list[Any]]:
        async with client.pipeline(transaction=False) as pipeline:
            for names in segments:
                keys = [names.rows, names.index("expiry"), *(names.count(name) for name in COUNTS)]
                arguments = (now, passed, MAX_GROUPS, TOP_SYMBOLS)
                pipeline.execute_command(*command("statistics", keys, arguments, read_only=True))
            replies: list[list[Any]] = await pipeline.execute()
            return replies

    return await with_functions_async(client, ask)


def _pairs(flat: Sequence[bytes]) -> dict[str, int]:
    return {name.decode(): int(float(count)) for name, count in zip(flat[::2], flat[1::2], strict=True)}


def _rows(replies: Sequence[list[Any]]) -> list[PatternRow]:
    return [read_row(PatternRow, document).row for _, documents, *_ in replies for document in documents]


def _active(tally: _Tally) -> PatternStatistics:
    names = [count.name for count in ActivePatterns.summaries]
    for row in tally.elapsed:
        for name, group in zip(names, placement_of(ActivePatterns(), row).counts, strict=True):
            if group is not None:
                tally.counts[name][group] -= 1
    counts = tally.counts
    gone = sum(count <= 0 for count in counts["by_symbol"].values())
    return PatternStatistics(
        total=counts["all"][""],
        high_confidence=counts["high_confidence"][""],
        by_type=most_frequent(counts["by_type"]),
        by_tier=most_frequent(counts["by_tier"]),
        by_confidence=most_frequent(counts["by_confidence"]),
        by_symbol=most_frequent(counts["by_symbol"], TOP_SYMBOLS),
        symbols=tally.symbols - gone,
    )
