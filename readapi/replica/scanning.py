"""Answers a scan from the columns: how many rows pass its filters, and which of them are on the page.

Each filter knows from its order how many rows it lets pass. If the narrowest lets few pass, those are looked at one by
one; else every filter marks its whole column, and the page is found by walking along the order of the sort until enough
marked rows have been met.
"""

from typing import NamedTuple

import numpy as np

from projections.queries import Cursor, PatternQuery
from readapi.replica.columns import Columns, Mask, Slots
from readapi.replica.filters import ByNumber, Filter, checks, filters_of, passing
from readapi.replica.indexes import Indexes
from readapi.replica.sorted_indexes import Ordered

_COLUMNS = {"rs": "relative_strength", "volume": "relative_volume"}
"""Sorts by a column of another name."""

FEW = 1_500
"""So many rows are looked at one by one in any case …"""

FEW_OF = 50
"""… and so one in so many of all rows …"""

FEW_IN_ORDER_OF = 8
"""… or one in so many if they are in the order of the page, so that none but the first need to be sorted."""

FEWEST_WALKED = 256
"""TopicPositions of an order that are looked at together, at least."""


class ScanMatches(NamedTuple):
    """What a scan has found: how many rows pass, those on the page in order, and whether more follow."""

    total: int
    slots: Slots
    more: bool


NOTHING = ScanMatches(0, np.zeros(0, np.int64), more=False)


def find(query: PatternQuery, indexes: Indexes, columns: Columns) -> ScanMatches:
    """The rows of the page."""
    choice, others = filters_of(query, indexes, columns)
    order = indexes.text_order("symbol") if query.sort_by == "symbol" else indexes.order(column_of(query.sort_by))
    if not choice:
        return _stretch(order, 0, len(order.slots), query)
    counts = [one.count() for one in choice]
    fewest = min(counts)
    narrowest = choice[counts.index(fewest)]
    if fewest == 0:
        return NOTHING
    if isinstance(narrowest, ByNumber):
        if len(choice) == 1 and not others and narrowest.order is order:
            return _stretch(order, *narrowest.places, query)
    elif query.sort_by == "confidence" and not query.after and fewest <= len(columns) // FEW_IN_ORDER_OF:
        return _merge(order, narrowest.runs(), checks(narrowest, [*choice, *others]), query)
    few = max(FEW, len(columns) // FEW_OF)
    if fewest <= few:
        return _pick(order, passing(narrowest.rows(), checks(narrowest, [*choice, *others])), query)
    return _mark(order, [*choice, *others], columns.active[: columns.used], few, query)


def column_of(sort: str) -> str:
    """The column of numbers that a sort is by."""
    return _COLUMNS.get(sort, sort)


def _stretch(order: Ordered, low: int, high: int, query: PatternQuery) -> ScanMatches:
    """The page where all rows from one place to another pass."""
    total = high - low
    if query.after:
        low, high = _behind(order, query.after, descending=query.descending, low=low, high=high)
    if query.descending:
        end = high - query.offset
        slots = order.slots[max(low, end - query.limit) : max(low, end)][::-1]
        return ScanMatches(total, slots, more=end - query.limit > low)
    start = low + query.offset
    return ScanMatches(total, order.slots[start : min(high, start + query.limit)], more=start + query.limit < high)


def _pick(order: Ordered, slots: Slots, query: PatternQuery) -> ScanMatches:
    """The page where these rows pass, in whatever order."""
    total = len(slots)
    ranks = order.ranks.take(slots)
    if query.after:
        low, high = _behind(order, query.after, descending=query.descending, low=0, high=len(order.slots))
        ranks = ranks[(ranks >= low) & (ranks < high)]
    needed = query.offset + query.limit + 1
    if len(ranks) > needed * 2:
        ranks.partition(len(ranks) - needed if query.descending else needed)
        ranks = ranks[-needed:] if query.descending else ranks[:needed]
    ranks.sort()
    page = (ranks[::-1] if query.descending else ranks)[query.offset : query.offset + query.limit + 1]
    return ScanMatches(total, order.slots.take(page[: query.limit]), more=len(page) > query.limit)


def _merge(order: Ordered, runs: list[Slots], checks: list[Filter], query: PatternQuery) -> ScanMatches:
    """The page where the rows of some runs, each in the order of the page, pass if they pass the checks too."""
    total = 0
    needed = query.offset + query.limit + 1
    firsts: list[Slots] = []
    for run in runs:
        if checks:
            kept = np.flatnonzero(_kept(run, checks))
            total += len(kept)
            firsts.append(run.take(kept[-needed:] if query.descending else kept[:needed]))
        else:
            total += len(run)
            firsts.append(run[-needed:] if query.descending else run[:needed])
    found = _pick(order, np.concatenate(firsts), query)
    return found._replace(total=total)


def _kept(run: Slots, checks: list[Filter]) -> Mask:
    kept = checks[0].keep(run)
    for one in checks[1:]:
        kept &= one.keep(run)
    return kept


def _mark(order: Ordered, filters: list[Filter], active: Mask, few: int, query: PatternQuery) -> ScanMatches:
    """The page where the active rows pass that all filters mark."""
    first, *others = filters
    mask = first.mark(np.empty_like(active))
    marked = np.empty_like(active)
    for one in others:
        mask &= one.mark(marked)
    mask &= active
    total = int(np.count_nonzero(mask))
    return _pick(order, np.flatnonzero(mask), query) if total <= few else _walk(order, mask, total, query)


def _walk(order: Ordered, mask: Mask, total: int, query: PatternQuery) -> ScanMatches:
    """The page where the marked rows pass, which are so many."""
    low, high = 0, len(order.slots)
    if query.after:
        low, high = _behind(order, query.after, descending=query.descending, low=low, high=high)
    needed = query.offset + query.limit + 1
    step = max(FEWEST_WALKED, needed * len(order.slots) * 5 // (total * 4))
    parts: list[Slots] = []
    found = 0
    while found < needed and low < high:
        if query.descending:
            part = order.slots[max(low, high - step) : high][::-1]
            high -= step
        else:
            part = order.slots[low : min(high, low + step)]
            low += step
        hits = part[mask.take(part)]
        found += len(hits)
        parts.append(hits)
    slots = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else NOTHING.slots
    page = slots[query.offset : query.offset + query.limit + 1]
    return ScanMatches(total, page[: query.limit], more=len(page) > query.limit)


def _behind(order: Ordered, cursor: Cursor, *, descending: bool, low: int, high: int) -> tuple[int, int]:
    """Of the places from ``low`` to ``high`` those that come after the cursor."""
    below = order.place(cursor.value, cursor.key)
    if descending:
        return low, max(low, min(high, below))
    at = order.place(cursor.value, cursor.key + "\0")
    return min(high, max(low, at)), high
