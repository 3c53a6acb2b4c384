"""Random rows of ``patterns`` and random queries. Few symbols, types and values, so that rows often tie.

Each draw takes Hypothesis longer than the row that is built from it. So values that do not depend on each other are one
draw, from all their combinations.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import permutations, product
from typing import Any

from hypothesis import strategies as st

from domain.streams import log_of, market_logs, symbol_stream
from projections.patterns import ActivePatterns, PatternRow, pattern_id
from projections.queries import Equality, Filter, Query, Range
from readapi.http.parameters import parse_parameters
from readapi.patterns.scan_parameters import ScanParameters
from tests.catalogue import CatalogueFixture
from tests.choices import one_value

LOGS = market_logs(3)
SYMBOLS = ("BRK.B", "BRK", "BRK-A", "X:BTCUSD", "X", "aapl", "AAPL", "ÅÄÖ")
PATTERN_TYPES = ("Doji", "Hammer", "Weekly_Breakout")
TIERS = ("daily", "intraday")
NOW = 1_000.0

CONFIDENCES = (0.0, 0.3, 0.5, 0.5, 0.8, 1 / 3, 0.1 + 0.2, 1.0)
confidences = st.sampled_from(CONFIDENCES)

FREQUENT_MEASURES = (-1.5, -0.0, 0.0, 1.2, 1.2, 70.0, 1e-9, 0.1 + 0.2)
RARE_MEASURES = (
    *(-5.0, -5e-324, 5e-324, 1e-300, 1.0, 1.0000000000000002, 30.0, 50.0, 99.99999999999999, 100.0),
    *(105 * (number * 0.6180339887498949 % 1) - 5 for number in range(590)),
)
"""Limits, and 590 numbers with all decimals that are spread evenly from -5 to 100."""

measures = one_value((*(None,) * 600, *FREQUENT_MEASURES * 75, *RARE_MEASURES))


def pattern_row(
    symbol: str, pattern: str, tier: str, detected_at: float, confidence: float, **others: Any
) -> PatternRow:
    """Build the row of a pattern."""
    key = pattern_id(symbol, pattern, tier, detected_at)
    return PatternRow(key, symbol, pattern, tier, confidence, detected_at, detected_at, **others)


def pattern_rows_of(symbols: tuple[str, ...]) -> st.SearchStrategy[PatternRow]:
    """Rows of the given symbols."""
    detected = [900 + number / 2 for number in range(10)]
    ends = (None, None, NOW - 1, NOW, NOW + 0.5, NOW + 100)
    return st.builds(
        lambda place, values, strength, volume, rsi: pattern_row(
            *place, values[0], expires_at=values[1], relative_strength=strength, relative_volume=volume, rsi=rsi
        ),
        one_value([*product(symbols, PATTERN_TYPES, TIERS, detected)]),
        one_value([*product(CONFIDENCES, ends)]),
        measures,
        measures,
        measures,
    )


pattern_rows = pattern_rows_of(SYMBOLS)

# Hypothesis prefers short lists. Many errors of queries only appear in segments with many rows, or all rows.
few_or_many_rows = st.one_of(
    st.lists(pattern_rows, max_size=3),
    st.lists(pattern_rows, min_size=30, max_size=80),
    st.lists(pattern_rows, min_size=60, max_size=120),
    st.lists(pattern_rows_of(("BRK",)), min_size=30, max_size=60),
)


def subsets_of(names: tuple[str, ...]) -> st.SearchStrategy[frozenset[str]]:
    """Sets of up to three names, ``absent`` among them."""
    return st.frozensets(st.sampled_from((*names, *names, "absent")), min_size=1, max_size=3)


MANY_SYMBOLS = frozenset(f"S{number}" for number in range(1_000))
"""A set as large as a universe: too many symbols to query one by one. Most have no pattern."""

symbol_sets = st.one_of(
    subsets_of(SYMBOLS),
    subsets_of(SYMBOLS),
    subsets_of(SYMBOLS).map(lambda symbols: symbols | MANY_SYMBOLS),
    st.just(frozenset[str]()),
)


def one_of(column: str, *values: str) -> Equality:
    """Return the filter by some values of ``symbol``, ``pattern`` or ``tier``, in any case."""
    return Equality(column, frozenset(map(ActivePatterns.columns[column].group, values)))


bounds = st.sampled_from((-1.5, 0.0, 1.2, float("-inf")))
FILTERS: tuple[st.SearchStrategy[Filter], ...] = (
    subsets_of(PATTERN_TYPES).map(lambda names: one_of("pattern", *names)),
    symbol_sets.map(lambda symbols: one_of("symbol", *symbols)),
    subsets_of(TIERS).map(lambda tiers: one_of("tier", *tiers)),
    confidences.map(lambda lowest: Range("confidence", lowest)),
    st.builds(
        lambda lowest, missing: Range("relative_strength", lowest, missing_matches=missing), bounds, st.booleans()
    ),
    bounds.map(lambda lowest: Range("relative_volume", lowest)),
    st.builds(
        lambda bounds, missing: Range("rsi", *bounds, missing_matches=missing),
        st.sampled_from(((0.0, 70.0), (1.2, 1.2), (70.0, 30.0), (-float("inf"), 60.0))),
        st.booleans(),
    ),
)
SORT_COLUMNS = ("confidence", "confidence", "detected_at", "symbol", "relative_strength", "relative_volume", None)


def without_missing(query: Query) -> Query:
    """Return a query in which a row without a number passes no filter by bounds."""
    filters = [each._replace(missing_matches=False) if isinstance(each, Range) else each for each in query.filters]
    return query._replace(filters=tuple(filters))


_FILTERS_BY_NUMBER = {number: [*permutations(FILTERS, number)] for number in (0, 1, 2, 4)}
_FILTERS = one_value(
    [
        filters
        for number in (0, 1, 1, 2, 2, 4)
        for filters in _FILTERS_BY_NUMBER[number] * (840 // len(_FILTERS_BY_NUMBER[number]))
    ]
)
"""Each number of filters as often as the others, and one and two of them twice as often."""

_PAGES = one_value(
    [
        Query(now, (), sort_by, descending=descending, offset=offset, limit=limit)
        for now, sort_by, descending, offset, limit in product(
            (0.0, NOW, NOW + 0.5, NOW + 50), SORT_COLUMNS, (False, True), (0, 0, 1, 7, 40), (1, 3, 10, 100)
        )
    ]
)


@st.composite
def pattern_queries(draw: st.DrawFn) -> Query:
    """Queries with no, one, two or four filters. The number of filters decides how a query is executed."""
    return draw(_PAGES)._replace(filters=tuple(map(draw, draw(_FILTERS))))


_LOWEST = st.sampled_from(("0", "0", "0.0", "-0", "-1.5", "1e-9", "1.2"))

scan_bounds = st.fixed_dictionaries(
    {"confidence_min": st.sampled_from(("0", "0", "0.5"))},
    optional={
        "rs_min": _LOWEST,
        "vol_min": _LOWEST,
        "rsi_range": st.sampled_from(("0,100", "0,100", "-5,200", "0,70", "1.2,100", "0,0", "100,100", "1.2,70")),
    },
)
"""Bounds of the scan as texts, often at the ends of their scales."""


def bounded_query(bounds: Mapping[str, str], now: float = NOW) -> Query:
    """Return the query of a scan with these bounds, on one page."""
    return parse_parameters(ScanParameters, {**bounds, "per_page": "100"}).query(now, CatalogueFixture().catalogue)


def rows_by_id(rows: Iterable[PatternRow]) -> dict[str, PatternRow]:
    return {row.id: row for row in rows}


def log_of_pattern(key: str) -> str:
    return log_of(symbol_stream(key.rsplit(":", 3)[0]), len(LOGS))


def many_rows(count: int) -> dict[str, PatternRow]:
    """Rows over many symbols whose measures are independent enough for every code path of ``query.lua``."""
    return dict(_many_rows(count))


@cache
def _many_rows(count: int) -> Mapping[str, PatternRow]:
    return rows_by_id(
        pattern_row(
            f"S{number * 7 % 523}",
            PATTERN_TYPES[number % 3],
            TIERS[number % 2],
            900 + number / 8,
            number * 31 % 101 / 100,
            expires_at=NOW if number % 50 == 0 else None,
            relative_strength=None if number % 11 == 0 else number * 17 % 97 / 40,
            relative_volume=number * 13 % 89 / 30,
            rsi=float(number * 29 % 100),
        )
        for number in range(count)
    )
