"""The four kinds of scans that benchmarks measure, with random parameters, as queries and as paths of the API."""

import random
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import NamedTuple

from infra.bench.detections import PATTERN_TYPES, symbol
from projections.queries import Equality, Query, Range


class ScanKind(NamedTuple):
    """A kind of scan. ``vary`` returns a scan with random parameters, as a query and as the query string of the API."""

    name: str
    description: str
    vary: Callable[[random.Random, int], tuple[Query, str]]


def _by_confidence(chance: random.Random, symbols: int) -> tuple[Query, str]:
    del symbols
    lowest = chance.uniform(0.4, 0.6)
    query = Query(0, (Range("confidence", lowest),), "confidence", descending=True)
    return query, f"confidence_min={lowest}"


def _two_types(chance: random.Random, symbols: int) -> tuple[Query, str]:
    del symbols
    types = chance.sample(PATTERN_TYPES, 2)
    lowest, strength = chance.uniform(0.65, 0.75), chance.uniform(1.1, 1.3)
    filters = (
        Equality("pattern", frozenset(types)),
        Range("confidence", lowest),
        Range("relative_strength", strength),
    )
    query = Query(0, filters, "confidence", descending=True)
    return query, f"pattern_types={','.join(types)}&confidence_min={lowest}&rs_min={strength}"


def _three_symbols(chance: random.Random, symbols: int) -> tuple[Query, str]:
    chosen = [symbol(chance.randrange(symbols)) for _ in range(3)]
    filters = (Equality("symbol", frozenset(chosen)), Range("confidence", 0.5))
    return Query(0, filters, "confidence", descending=True), f"symbols={','.join(chosen)}"


def _third_page_by_strength(chance: random.Random, symbols: int) -> tuple[Query, str]:
    del symbols
    low, volume = chance.uniform(28, 32), chance.uniform(1.4, 1.6)
    filters = (Range("confidence", 0.5), Range("rsi", low, 70), Range("relative_volume", volume))
    query = Query(0, filters, "relative_strength", descending=True, offset=60)
    return query, f"rsi_range={low},70&vol_min={volume}&sort_by=rs&page=3"


SCAN_KINDS = (
    ScanKind("A", "confidence ≥ 0.5, by confidence", _by_confidence),
    ScanKind("B", "2 types, confidence ≥ 0.7, rs ≥ 1.2", _two_types),
    ScanKind("C", "3 symbols", _three_symbols),
    ScanKind("D", "rsi 30–70, volume ≥ 1.5, by rs, page 3", _third_page_by_strength),
)


def varied_paths(names: str, symbols: int, seed: int) -> Iterator[str]:
    """Yield paths of scans without end. The kinds with these names alternate, and no two paths are equal."""
    chance = random.Random(seed)  # noqa: S311 not for security
    kinds = [kind for kind in SCAN_KINDS if kind.name in names]
    while True:
        for kind in kinds:
            yield f"/api/patterns/scan?{kind.vary(chance, symbols)[1]}"


def repeated_paths(names: str, symbols: int, seed: int) -> Iterator[str]:
    """Yield the first path of ``varied_paths`` without end."""
    return repeat(next(varied_paths(names, symbols, seed)))
