"""Tamper detection: what happened to a log whose chain does not fit, from the first row that does not fit to the end.

An event that was moved together with its hash still fits the hash of the event before it, once its former position is
put back. Therefore moved events are recognised wherever they are now.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from infra.archive.verification.chains import ChainLink, RowLayout, has_valid_hash, hash_of, split_state

MAX_SHIFT = 1_000
"""Highest number of removed or added events before a row at which renumbering is recognised. A larger number is also
recognised if it is the difference between the present and the expected last position."""

TamperKind = Literal["changed", "missing", "added", "swapped"]


class TamperFinding(NamedTuple):
    """The first event of a log that does not fit the chain."""

    position: int
    kind: TamperKind
    detail: str


class ChainBreak(NamedTuple):
    """The place where a chain stops fitting, and the known end of the log."""

    layout: RowLayout
    link: ChainLink
    """The last link that fits."""
    last: int
    """The last position that the log should have."""
    head: bytes | None
    """The hash that the event at ``last`` should have; None if it is unknown."""

    @property
    def expected(self) -> int:
        """The position that should follow."""
        return self.link.position + 1


@dataclass
class _Search:
    """The result of the search in the rows behind the first row that does not fit."""

    event_at: int | None = None
    """The present position of the expected event."""
    content_at: int | None = None
    """The present position of the expected event's content, under another hash."""
    state_at: int | None = None
    """The present position of the expected event's state."""
    former: int | None = None
    """The former position of the row that does not fit."""
    is_copy: bool = False
    """Whether the row is also at its former position."""
    last: int = 0
    """The last position that the log has."""


def classify_break(chain_break: ChainBreak, row: bytes | None, following_rows: Iterator[bytes]) -> TamperFinding:
    """Find out what happened where a chain stops fitting.

    Args:
        chain_break: The place.
        row: The first row that does not fit; None if the rows end there.
        following_rows: The rows behind ``row``, to the end of the log.
    """
    expected = chain_break.expected
    if row is None:
        return _missing(expected, chain_break.last, "according to the checkpoint they were archived")
    position = chain_break.layout.position(row)
    if position < expected:
        detail = "positions begin at 1" if position < 1 else "several rows have this position"
        return TamperFinding(position, "added", detail)
    if expected < position and expected <= chain_break.last:
        return _missing(expected, min(position - 1, chain_break.last), f"the next event has position {position}")
    following = next(following_rows, None)
    if following is not None and chain_break.layout.position(following) == position:
        return TamperFinding(position, "added", "several rows have this position")
    if position > chain_break.last:
        return _classify_surplus(chain_break, row, following, position)
    return _classify_content(chain_break, row, following, following_rows)


def _classify_surplus(chain_break: ChainBreak, row: bytes, following: bytes | None, position: int) -> TamperFinding:
    """Classify a row behind the last position of the log."""
    former = _former_position(chain_break, row, following, position)
    # The row of the head may have been shifted. A copy of the head, and a row that is chained to the head, were added.
    link = chain_break.link
    is_shifted = link.hash != chain_break.head and chain_break.layout.hash_after(link.hash, row) != hash_of(row)
    if former is not None and former < position and is_shifted:
        return _added(former, position - former)
    return TamperFinding(position, "added", f"the checkpoint of the archive is {chain_break.last}")


def _classify_content(
    chain_break: ChainBreak, row: bytes, following: bytes | None, following_rows: Iterator[bytes]
) -> TamperFinding:
    """Classify a row that has the expected position but a hash that does not fit."""
    expected = chain_break.expected
    if not has_valid_hash(row):
        return TamperFinding(expected, "changed", "its hash does not have 32 bytes")
    if _has_valid_content(chain_break, row, following):
        detail = "its hash was changed; its content and the following events fit the chain"
        return TamperFinding(expected, "changed", detail)
    search = _search(chain_break, row, following, following_rows)
    if search.event_at is not None:
        return _moved(chain_break, search, search.event_at)
    if search.content_at is not None:
        detail = f"with {search.content_at}: that position has the content of event {expected} under another hash"
        return TamperFinding(expected, "swapped", detail)
    if search.state_at is not None:
        detail = f"with {search.state_at}: that position has the state of event {expected}"
        return TamperFinding(expected, "swapped", detail)
    former = _former_position(chain_break, row, following, search.last)
    if former is None:
        return TamperFinding(expected, "changed", "neither this event nor the next one fits its hash")
    if former > expected:
        return _missing(expected, former - 1, "the following events were renumbered")
    if former < expected:
        return _added(former, expected - former)
    detail = "its content does not fit its hash; the following events are chained to that hash"
    return TamperFinding(expected, "changed", detail)


def _has_valid_content(chain_break: ChainBreak, row: bytes, following: bytes | None) -> bool:
    """Return whether only the stored hash of the row is wrong."""
    row_hash = chain_break.layout.hash_after(chain_break.link.hash, row)
    if following is None:
        return chain_break.expected == chain_break.last and row_hash == chain_break.head
    return chain_break.layout.hash_after(row_hash, following) == hash_of(following)


def _search(chain_break: ChainBreak, row: bytes, following: bytes | None, following_rows: Iterator[bytes]) -> _Search:
    """Search the following rows for the expected event, and for the former position of ``row``."""
    layout, link, expected = chain_break.layout, chain_break.link, chain_break.expected
    row_hash = previous_hash = hash_of(row)
    front, _ = split_state(row)
    search = _Search(last=expected)
    while following is not None:
        position, own_hash = layout.position(following), hash_of(following)
        if layout.hash_after(previous_hash, following) != own_hash:
            moved_hash = layout.hash_after(link.hash, following, expected)
            if moved_hash == own_hash:
                search.event_at = position
            elif moved_hash == row_hash:
                search.content_at = position
            elif layout.hash_after(link.hash, front + split_state(following)[1] + row[-36:]) == row_hash:
                search.state_at = position
        for former in (position, position + 1):
            if layout.hash_after(own_hash, row, former) == row_hash:
                search.former = former
        search.is_copy = search.is_copy or own_hash == row_hash
        search.last = position
        previous_hash, following = own_hash, next(following_rows, None)
    return search


def _former_position(chain_break: ChainBreak, row: bytes, following: bytes | None, last: int) -> int | None:
    """Return the position that ``row`` had when ``following`` was chained to it. None if it was not."""
    layout = chain_break.layout
    if following is None:
        return chain_break.last if hash_of(row) == chain_break.head else None
    shifts = (0, chain_break.last - last, *(sign * by for by in range(1, MAX_SHIFT + 1) for sign in (1, -1)))
    position = layout.position(following)
    for shift in shifts:
        if layout.hash_after(hash_of(row), following, position + shift) == hash_of(following):
            return position + shift - 1
    return None


def _moved(chain_break: ChainBreak, search: _Search, event_at: int) -> TamperFinding:
    """Classify a row in whose place another event is expected, which is now at ``event_at``."""
    expected = chain_break.expected
    former = None if search.is_copy else search.former
    if former == event_at:
        return TamperFinding(expected, "swapped", f"with {event_at}: the two events changed places")
    if former is not None:
        detail = f"with {former}: event {former} has this position, and event {expected} has position {event_at}"
        return TamperFinding(expected, "swapped", detail)
    if search.last > chain_break.last:
        return _added(expected, event_at - expected)
    detail = f"event {expected} has position {event_at}: the order of the events was changed"
    return TamperFinding(expected, "swapped", detail)


def _missing(first: int, last: int, detail: str) -> TamperFinding:
    events = "1 event is" if first == last else f"{last - first + 1} events are"
    return TamperFinding(first, "missing", f"{events} missing: {detail}")


def _added(position: int, count: int) -> TamperFinding:
    events = "1 event was" if count == 1 else f"{count} events were"
    return TamperFinding(position, "added", f"{events} inserted, and the following events were renumbered")
