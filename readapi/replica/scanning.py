"""The scan on the columns: how many rows pass the filters, and which rows are on the page.

Each filter knows from a sorted index how many rows pass it, and the narrowest filter decides how the page is found:

1. *Slice*: no filter, or a single bound on the sort column. The page is a slice of the sorted index.
2. *Merge*: the narrowest filter is by text and the sort is by confidence. The rows of each text are already in order;
   the best rows of each text that pass the other filters are merged.
3. *Select*: few rows pass the narrowest filter. They are tested one by one and ordered by rank.
4. *Mark*: every filter marks its whole column. The sorted index is walked until the page is full of marked rows.
"""

from typing import NamedTuple

import numpy as np

from projections.queries import Cursor, PatternQuery
from readapi.replica.columns import Columns, Mask, Slots
from readapi.replica.filters import Filter, RangeFilter, filters_of, passing, remaining_filters
from readapi.replica.indexes import Indexes
from readapi.replica.sorted_indexes import SortedIndex

_SORT_COLUMNS = {"rs": "relative_strength", "volume": "relative_volume"}
"""Sort key -> column, where the names differ."""

SELECTED_ROWS = 1_500
"""Highest number of rows that *select* tests in a small replica."""

SELECTED_FRACTION = 50
"""*Select* tests up to 1 / ``SELECTED_FRACTION`` of all rows in a large replica, if that is more than SELECTED_ROWS."""

MERGED_FRACTION = 8
"""*Merge* is used for up to 1 / ``MERGED_FRACTION`` of all rows, because it sorts only the best rows of each text."""

MIN_WALKED_ROWS = 256
"""Lowest number of rows per step of a walk."""


class ScanMatches(NamedTuple):
    """The result of a scan: number of rows that pass, the rows of the page in order, and whether more rows follow."""

    total: int
    slots: Slots
    more: bool


NO_MATCHES = ScanMatches(0, np.zeros(0, np.int64), more=False)


def find_matches(query: PatternQuery, indexes: Indexes, columns: Columns) -> ScanMatches:
    """Find the rows of the page, by the cheapest of the four ways."""
    counted, uncounted = filters_of(query, indexes, columns)
    order = indexes.by_text("symbol") if query.sort_by == "symbol" else indexes.by_number(sort_column(query.sort_by))
    if not counted:
        return _slice(order, 0, len(order.slots), query)
    counts = [each.count() for each in counted]
    fewest = min(counts)
    narrowest = counted[counts.index(fewest)]
    if fewest == 0:
        return NO_MATCHES
    if isinstance(narrowest, RangeFilter):
        if len(counted) == 1 and not uncounted and narrowest.index is order:
            return _slice(order, *narrowest.rank_range, query)
    elif query.sort_by == "confidence" and not query.after and fewest <= len(columns) // MERGED_FRACTION:
        return _merge(order, narrowest.runs(), remaining_filters(narrowest, [*counted, *uncounted]), query)
    few = max(SELECTED_ROWS, len(columns) // SELECTED_FRACTION)
    if fewest <= few:
        return _select(order, passing(narrowest.rows(), remaining_filters(narrowest, [*counted, *uncounted])), query)
    return _mark(order, [*counted, *uncounted], columns.active[: columns.used_slots], few, query)


def sort_column(sort: str) -> str:
    """Return the column of numbers for a sort key."""
    return _SORT_COLUMNS.get(sort, sort)


def _slice(order: SortedIndex, start: int, end: int, query: PatternQuery) -> ScanMatches:
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


def _select(order: SortedIndex, slots: Slots, query: PatternQuery) -> ScanMatches:
    """Return the page of some rows, given in any order. Sorts the ranks of the first rows only."""
    total = len(slots)
    ranks = order.ranks.take(slots)
    if query.after:
        start, end = _after_cursor(order, query.after, descending=query.descending, start=0, end=len(order.slots))
        ranks = ranks[(ranks >= start) & (ranks < end)]
    needed = query.offset + query.limit + 1
    if len(ranks) > needed * 2:
        ranks.partition(len(ranks) - needed if query.descending else needed)
        ranks = ranks[-needed:] if query.descending else ranks[:needed]
    ranks.sort()
    page = (ranks[::-1] if query.descending else ranks)[query.offset : query.offset + query.limit + 1]
    return ScanMatches(total, order.slots.take(page[: query.limit]), more=len(page) > query.limit)


def _merge(order: SortedIndex, runs: list[Slots], filters: list[Filter], query: PatternQuery) -> ScanMatches:
    """Return the page of the rows that pass some filters, from runs that are each in the order of the page."""
    total = 0
    needed = query.offset + query.limit + 1
    best: list[Slots] = []
    for run in runs:
        if filters:
            passed = np.flatnonzero(_test_all(run, filters))
            total += len(passed)
            best.append(run.take(passed[-needed:] if query.descending else passed[:needed]))
        else:
            total += len(run)
            best.append(run[-needed:] if query.descending else run[:needed])
    matches = _select(order, np.concatenate(best), query)
    return matches._replace(total=total)


def _test_all(run: Slots, filters: list[Filter]) -> Mask:
    passes = filters[0].test(run)
    for each in filters[1:]:
        passes &= each.test(run)
    return passes


def _mark(order: SortedIndex, filters: list[Filter], active: Mask, few: int, query: PatternQuery) -> ScanMatches:
    """Return the page of the active rows that all filters mark."""
    first, *others = filters
    mask = first.mark(np.empty_like(active))
    marked = np.empty_like(active)
    for each in others:
        mask &= each.mark(marked)
    mask &= active
    total = int(np.count_nonzero(mask))
    return _select(order, np.flatnonzero(mask), query) if total <= few else _walk(order, mask, total, query)


def _walk(order: SortedIndex, mask: Mask, total: int, query: PatternQuery) -> ScanMatches:
    """Return the page of many marked rows. Walks along the order in steps that are likely to fill the page."""
    start, end = 0, len(order.slots)
    if query.after:
        start, end = _after_cursor(order, query.after, descending=query.descending, start=start, end=end)
    needed = query.offset + query.limit + 1
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
    page = slots[query.offset : query.offset + query.limit + 1]
    return ScanMatches(total, page[: query.limit], more=len(page) > query.limit)


def _after_cursor(order: SortedIndex, cursor: Cursor, *, descending: bool, start: int, end: int) -> tuple[int, int]:
    """Return the part of a rank range that comes after the cursor in the order of the page."""
    rank = order.rank_of(cursor.value, cursor.key)
    if descending:
        return start, max(start, min(end, rank))
    # The key with NUL appended is the next possible key.
    next_rank = order.rank_of(cursor.value, cursor.key + "\0")
    return min(end, max(start, next_rank)), end
