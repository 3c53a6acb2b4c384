"""What has happened to a log whose chain does not fit: judged from the first row that does not, and those behind it.

An event that was moved whole, with its hash, still fits the hash of the event before it, once it is put back to the
position that it had; so events can be recognised wherever they stand now.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from infra.archive.verification.chains import ChainLink, RowLayout, has_valid_hash, hash_of, split_state

SHIFTED_AT_MOST = 1_000
"""Renumbered events are recognised if so many were removed or added in one place, or all of them in one place."""

Kind = Literal["changed", "missing", "added", "swapped"]


class TamperFinding(NamedTuple):
    """The first event of a log that does not fit."""

    position: int
    kind: Kind
    detail: str


class Chain(NamedTuple):
    """A chain up to where it fits, and what is known of its end."""

    layout: RowLayout
    link: ChainLink
    """The last that fits."""
    end: int
    """The last position that there should be in the log."""
    head: bytes | None
    """The hash that the event there should have; None if it is not known."""


@dataclass
class _Found:
    """What was recognised in the rows behind one that does not fit."""

    event_at: int | None = None
    """Where the event that should stand in its place stands now."""
    content_at: int | None = None
    """Where the content of that event stands now, under another hash."""
    state_at: int | None = None
    """Where the state of that event stands now."""
    home: int | None = None
    """The position that the row had before."""
    copied: bool = False
    """Whether the row is also where it was before."""
    last: int = 0
    """The last position there is."""


def judge(chain: Chain, row: bytes | None, rows: Iterator[bytes]) -> TamperFinding:
    """What is wrong with ``row``, which does not follow, or with its absence.

    ``rows`` are those behind it, to the end of the log.
    """
    expected = chain.link.position + 1
    if row is None:
        return _missing(expected, chain.end, "the checkpoint says that so much was archived")
    position = chain.layout.position(row)
    if position < expected:
        below = "no position of a log" if position < 1 else "there are several of that position"
        return TamperFinding(position, "added", below)
    if expected < position and expected <= chain.end:
        return _missing(expected, min(position - 1, chain.end), f"the next event is {position}")
    following = next(rows, None)
    if following is not None and chain.layout.position(following) == position:
        return TamperFinding(position, "added", "there are several of that position")
    if position > chain.end:
        origin = _origin(chain, row, following, position)
        # The row of the head may stand behind its place: unless it is a copy, or chained to what is there.
        is_shifted = chain.link.hash != chain.head and chain.layout.hash_after(chain.link.hash, row) != hash_of(row)
        if origin is not None and origin < position and is_shifted:
            return _added(origin, position - origin)
        return TamperFinding(position, "added", f"it is behind the checkpoint, {chain.end}")
    return _judge_content(chain, row, following, rows)


def _judge_content(chain: Chain, row: bytes, following: bytes | None, rows: Iterator[bytes]) -> TamperFinding:
    """The row stands where a row should stand, but its hash does not fit."""
    expected = chain.link.position + 1
    if not has_valid_hash(row):
        return TamperFinding(expected, "changed", "its hash has not 32 bytes")
    if _fits_without_its_hash(chain, row, following):
        return TamperFinding(expected, "changed", "its hash was changed; its content fits, and the events behind it do")
    found = _search(chain, row, following, rows)
    if found.event_at is not None:
        return _moved(chain, found, found.event_at)
    if found.content_at is not None:
        detail = f"with {found.content_at}: the content of event {expected} stands there, under another hash"
        return TamperFinding(expected, "swapped", detail)
    if found.state_at is not None:
        return TamperFinding(expected, "swapped", f"with {found.state_at}: the state of event {expected} stands there")
    origin = _origin(chain, row, following, found.last)
    if origin is None:
        return TamperFinding(expected, "changed", "neither it nor the event behind it fits its hash")
    if origin > expected:
        return _missing(expected, origin - 1, "the events behind were renumbered")
    if origin < expected:
        return _added(origin, expected - origin)
    return TamperFinding(
        expected, "changed", "its content does not fit its hash; the events behind it chain on that hash"
    )


def _fits_without_its_hash(chain: Chain, row: bytes, following: bytes | None) -> bool:
    hash_ = chain.layout.hash_after(chain.link.hash, row)
    if following is None:
        return chain.link.position + 1 == chain.end and hash_ == chain.head
    return chain.layout.hash_after(hash_, following) == hash_of(following)


def _search(chain: Chain, row: bytes, following: bytes | None, rows: Iterator[bytes]) -> _Found:
    """Look through all rows behind for what belongs in the place of ``row``, and for the place of ``row``."""
    layout, (before, hash_) = chain.layout, chain.link
    expected, previous, wanted = before + 1, hash_of(row), hash_of(row)
    front, _ = split_state(row)
    found = _Found(last=expected)
    while following is not None:
        position, own = layout.position(following), hash_of(following)
        if layout.hash_after(previous, following) != own:
            there = layout.hash_after(hash_, following, expected)
            if there == own:
                found.event_at = position
            elif there == wanted:
                found.content_at = position
            elif layout.hash_after(hash_, front + split_state(following)[1] + row[-36:]) == wanted:
                found.state_at = position
        for place in (position, position + 1):
            if layout.hash_after(own, row, place) == wanted:
                found.home = place
        found.copied = found.copied or own == wanted
        found.last = position
        previous, following = own, next(rows, None)
    return found


def _origin(chain: Chain, row: bytes, following: bytes | None, last: int) -> int | None:
    """The position that ``row`` had when ``following`` was chained to it; None if it was not."""
    layout = chain.layout
    if following is None:
        return chain.end if hash_of(row) == chain.head else None
    shifts = (0, chain.end - last, *(sign * by for by in range(1, SHIFTED_AT_MOST + 1) for sign in (1, -1)))
    position = layout.position(following)
    for shift in shifts:
        if layout.hash_after(hash_of(row), following, position + shift) == hash_of(following):
            return position + shift - 1
    return None


def _moved(chain: Chain, found: _Found, event_at: int) -> TamperFinding:
    expected = chain.link.position + 1
    home = None if found.copied else found.home
    if home == event_at:
        return TamperFinding(
            expected, "swapped", f"with {event_at}: the events {expected} and {event_at} changed places"
        )
    if home is not None:
        detail = f"with {home}: event {home} stands here, and event {expected} stands at {event_at}"
        return TamperFinding(expected, "swapped", detail)
    if found.last > chain.end:
        return _added(expected, event_at - expected)
    return TamperFinding(expected, "swapped", f"event {expected} stands at {event_at}: the order was changed")


def _missing(first: int, last: int, detail: str) -> TamperFinding:
    what = "it is" if first == last else f"{last - first + 1} events are"
    return TamperFinding(first, "missing", f"{what} not there: {detail}")


def _added(position: int, count: int) -> TamperFinding:
    what = "it was" if count == 1 else f"{count} events were"
    return TamperFinding(position, "added", f"{what} put in, and the events behind renumbered")
