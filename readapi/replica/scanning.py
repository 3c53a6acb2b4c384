"""The query on the columns: how many rows pass the filters, and which rows are on the page.

Each filter knows from a sorted index how many rows pass it, and the narrowest filter decides how the page is found:

1. *Slice*: no filter, or a single bound on the sort column. The page is a slice of the sorted index.
2. *Merge*: the narrowest filter is by value and the sort is by the column ``order`` of the projection. The rows of
   each value are already in order; the best rows of each value that pass the other filters are merged.
3. *Select*: few rows pass the narrowest filter. They are tested one by one and ordered by rank.
4. *Mark*: every filter marks its whole column. The sorted index is walked until the page is full of marked rows.
"""

from typing import NamedTuple

import numpy as np

from projections.queries import Cursor, Query
from readapi.replica.arrays import Mask, Slots
from readapi.replica.columns import KEY_ORDER, Columns
from readapi.replica.filters import Filter, FilterPlan, RangeFilter, ValueFilter, passing
from readapi.replica.indexes import Indexes
from readapi.replica.sorted_indexes import SortedIndex

SELECTED_ROWS = 1_500
"""Highest number of rows that *select* tests in a small replica."""

SELECTED_FRACTION = 50
"""*Select* tests up to 1 / ``SELECTED_FRACTION`` of all rows in a large replica, if that is more than SELECTED_ROWS."""

MERGED_FRACTION = 8
"""*Merge* is used for up to 1 / ``MERGED_FRACTION`` of all rows, because it sorts only the best rows of each value."""

MIN_WALKED_ROWS = 256
"""Lowest number of rows per step of a walk."""


class ScanMatches(NamedTuple):
    """The result of a query: number of rows that pass, the rows of the page in order, and whether more rows follow."""

    total: int
    slots: Slots
    more: bool


NO_MATCHES = ScanMatches(0, np.zeros(0, np.int64), more=False)


def find_matches(query: Query, key: str, indexes: Indexes, columns: Columns) -> ScanMatches:
    """Find the rows of the page, by the cheapest of the four ways.

    Args:
        query: The query.
        key: The name of the key.
        indexes: The indexes of the replica.
        columns: The rows.
    """
    plan = FilterPlan(query, key, indexes, columns)
    order = indexes.sorted_by(query.sort_by)
    if not plan.all:
        return _slice(order, 0, len(order.slots), query)
    counts = [each.count() for each in plan.counted]
    fewest = min(counts, default=len(order.slots))
    if fewest == 0:
        return NO_MATCHES
    narrowest = plan.counted[counts.index(fewest)] if counts else None
    if isinstance(narrowest, RangeFilter):
        if len(plan.all) == 1 and narrowest.index is order and not narrowest.missing_matches:
            return _slice(order, *narrowest.rank_range, query)
    elif isinstance(narrowest, ValueFilter) and _may_merge(query, fewest, indexes, columns):
        return _merge(order, narrowest.runs(), plan.remaining(narrowest), query)
    few = max(SELECTED_ROWS, len(columns) // SELECTED_FRACTION)
    if fewest <= few:
        rows = narrowest.rows() if narrowest else order.slots
        return _select(order, passing(rows, plan.remaining(narrowest)), query)
    return _mark(order, plan.all, columns.active[: columns.used_slots], few, query)


def _may_merge(query: Query, rows: int, indexes: Indexes, columns: Columns) -> bool:
    in_order = (query.sort_by or KEY_ORDER) == indexes.order
    return in_order and not query.after and rows <= len(columns) // MERGED_FRACTION


def _slice(order: SortedIndex, start: int, end: int, query: Query) -> ScanMatches:
    """Return the page of all rows in a rank range."""
    total = end - start
    if query.after:
        start, end = _after_cursor(order, query.after, descending=query.descending, start=start, end=end)
    if query.descending:
        page_end = end - query.offset
        slots = order.slots[max(start, page_end - query.limit) : max(start, page_end)][::-1]
        return ScanMatches(total, slots, more=page_end - query.limit > start)
    page_start = start + query.offset
    slots = order.slots[page_start : min(end, page_start + query.limit)]
    return ScanMatches(total, slots, more=page_start + query.limit < end)


def _select(order: SortedIndex, slots: Slots, query: Query) -> ScanMatches:
    """Return the page of some rows, given in any order. Sorts the ranks of the first rows only."""
    total = len(slots)
    ranks = order.ranks.take(slots)
    if query.after:
        start, end = _after_cursor(order, query.after, descending=query.descending, start=0, end=len(order.slots))
        ranks = ranks[(ranks >= start) & (ranks < end)]
    needed = query.page_end
    if len(ranks) > needed * 2:
        ranks.partition(len(ranks) - needed if query.descending else needed)
        ranks = ranks[-needed:] if query.descending else ranks[:needed]
    ranks.sort()
    page = (ranks[::-1] if query.descending else ranks)[query.offset : query.page_end]
    return ScanMatches(total, order.slots.take(page[: query.limit]), more=len(page) > query.limit)


def _merge(order: SortedIndex, runs: list[Slots], filters: list[Filter], query: Query) -> ScanMatches:
    """Return the page of the rows that pass some filters, from runs that are each in the order of the page."""
    total = 0
    needed = query.page_end
    best: list[Slots] = []
    for run in runs:
        if filters:
            passes = _test_all(run, filters)
            total += int(np.count_nonzero(passes))
            best.append(_first_passing(run, passes, needed, descending=query.descending))
        else:
            total += len(run)
            best.append(run[-needed:] if query.descending else run[:needed])
    _, slots, more = _select(order, best[0] if len(best) == 1 else np.concatenate(best), query)
    return ScanMatches(total, slots, more)


def _first_passing(run: Slots, passes: Mask, needed: int, *, descending: bool) -> Slots:
    """Return the first rows of a run that pass, as many as needed. Looks at the first part of a long run first."""
    part = needed * 4
    while True:
        rows, marks = (run[-part:], passes[-part:]) if descending else (run[:part], passes[:part])
        hits = marks.nonzero()[0]
        if len(hits) >= needed or part >= len(run):
            return rows.take(hits[-needed:] if descending else hits[:needed])
        part = len(run)


def _test_all(run: Slots, filters: list[Filter]) -> Mask:
    passes = filters[0].test(run)
    for each in filters[1:]:
        passes &= each.test(run)
    return passes


def _mark(order: SortedIndex, filters: list[Filter], active: Mask, few: int, query: Query) -> ScanMatches:
    """Return the page of the active rows that all filters mark."""
    first, *others = filters
    mask = first.mark(np.empty_like(active))
    marked = np.empty_like(active)
    for each in others:
        mask &= each.mark(marked)
    if len(order.slots) < len(active):
        mask &= active
    total = int(np.count_nonzero(mask))
    return _select(order, mask.nonzero()[0], query) if total <= few else _walk(order, mask, total, query)


def _walk(order: SortedIndex, mask: Mask, total: int, query: Query) -> ScanMatches:
    """Return the page of many marked rows. Walks along the order in steps that are likely to fill the page."""
    start, end = 0, len(order.slots)
    if query.after:
        start, end = _after_cursor(order, query.after, descending=query.descending, start=start, end=end)
    needed = query.page_end
    # A quarter more rows than contain the needed number of marked rows on average.
    step = max(MIN_WALKED_ROWS, needed * len(order.slots) * 5 // (total * 4))
    parts: list[Slots] = []
    count = 0
    while count < needed and start < end:
        if query.descending:
            part = order.slots[max(start, end - step) : end][::-1]
            end -= step
        else:
            part = order.slots[start : min(end, start + step)]
            start += step
        hits = part[mask.take(part)]
        count += len(hits)
        parts.append(hits)
    slots = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else NO_MATCHES.slots
    page = slots[query.offset : query.page_end]
    return ScanMatches(total, page[: query.limit], more=len(page) > query.limit)


def _after_cursor(order: SortedIndex, cursor: Cursor, *, descending: bool, start: int, end: int) -> tuple[int, int]:
    """Return the part of a rank range that comes after the cursor in the order of the page."""
    rank = order.rank_of(cursor.value, cursor.key)
    if descending:
        return start, max(start, min(end, rank))
    # The key with NUL appended is the next possible key.
    next_rank = order.rank_of(cursor.value, cursor.key + "\0")
    return min(end, max(start, next_rank)), end
