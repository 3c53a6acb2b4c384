"""Whatever is done to the events of a log, verification names the first that is not as it was, and how it is not."""

import struct
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import assume, given
from hypothesis import strategies as st

from infra.archive.row_format import COLUMNS, GENESIS
from infra.archive.verification.chains import ChainLink, RowLayout
from infra.archive.verification.tamper_detection import ChainBreak, TamperFinding, classify_break

LOG = "market-0"
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


class Row(NamedTuple):
    """A row of ``tickview.events``."""

    position: int
    recorded_at: int
    stream: str
    version: int
    topic: str
    event_id: str
    source: str | None
    correlation_id: str | None
    origin: str
    state: bytes
    hash: bytes


def canonical_bytes(row: Row) -> bytes:
    encoded = b""
    for value in (LOG, *row[:-1]):
        if value is None:
            encoded += struct.pack(">i", -1)
        elif isinstance(value, int):
            encoded += struct.pack(">iq", 8, value)
        else:
            data = value.encode() if isinstance(value, str) else value
            encoded += struct.pack(">i", len(data)) + data
    return encoded


def copied(row: Row) -> bytes:
    return struct.pack(">h", len(COLUMNS) + 1) + canonical_bytes(row) + struct.pack(">i", len(row.hash)) + row.hash


def chained(rows: Sequence[Row], before: bytes = GENESIS) -> list[Row]:
    """The rows with the hashes that they should have."""
    result = []
    for row in rows:
        before = sha256(before + canonical_bytes(row)).digest()
        result.append(row._replace(hash=before))
    return result


def renumbered(rows: Sequence[Row]) -> list[Row]:
    return [row._replace(position=position) for position, row in enumerate(rows, 1)]


def verified(original: Sequence[Row], tampered: Sequence[Row]) -> TamperFinding | None:
    """What verification says of the tampered rows, where the original ones were archived."""
    layout, end = RowLayout(LOG), len(original)
    rows = iter([copied(row) for row in sorted(tampered, key=lambda row: row.position)])
    link, row = layout.follow(ChainLink(0, GENESIS), rows, end)
    if row is None:
        row = next(rows, None)
    if row is None and link.position == end:
        return None
    return classify_break(ChainBreak(layout, link, end, original[-1].hash), row, rows)


def found(original: Sequence[Row], tampered: Sequence[Row]) -> tuple[int, str]:
    misfit = verified(original, tampered)
    assert misfit is not None
    return misfit.position, misfit.kind


@st.composite
def contents(draw: st.DrawFn) -> Row:
    return Row(
        position=0,
        recorded_at=draw(st.integers(0, 3)),
        stream=draw(st.sampled_from(["symbol-A", "symbol-Ä", ""])),
        version=draw(st.integers(0, 3)),
        topic=draw(st.sampled_from(["t:A", "t:B"])),
        event_id=draw(st.uuids()).hex,
        source=draw(st.sampled_from([None, "", "bench"])),
        correlation_id=draw(st.sampled_from([None, "flow"])),
        origin=draw(st.sampled_from(["", "http"])),
        state=draw(st.sampled_from([b"", b"{}", b'{"a":1}', bytes(range(64))])),
        hash=b"",
    )


histories = st.lists(contents(), min_size=1, max_size=12).map(renumbered).map(chained)
longer = st.lists(contents(), min_size=3, max_size=12).map(renumbered).map(chained)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "recorded_at": st.integers(-(2**40), 2**40),
    "stream": TEXTS,
    "version": st.integers(-(2**40), 2**40),
    "topic": TEXTS,
    "event_id": TEXTS,
    "source": st.none() | TEXTS,
    "correlation_id": st.none() | TEXTS,
    "origin": TEXTS,
    "state": st.binary(max_size=80),
    "hash": st.binary(max_size=40) | st.binary(min_size=32, max_size=32),
}


@given(histories)
def test_an_untouched_chain_fits(rows: list[Row]) -> None:
    assert verified(rows, rows) is None


@given(histories, st.sampled_from(sorted(VALUES)), st.data())
def test_any_change_of_any_column_is_found_where_it_is(rows: list[Row], column: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    row = rows[at]._replace(**{column: data.draw(VALUES[column])})
    assume(row != rows[at])
    assert found(rows, [*rows[:at], row, *rows[at + 1 :]]) == (at + 1, "changed")


@given(histories, st.integers(-3, 20), st.data())
def test_an_event_at_another_position_is_found(rows: list[Row], position: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    assume(position != at + 1)
    first, kind = found(rows, [*rows[:at], rows[at]._replace(position=position), *rows[at + 1 :]])
    assert first == min(position, at + 1)
    assert kind == ("missing" if position > at + 1 else "added")


@given(histories, st.data())
def test_what_is_taken_out_is_missing(rows: list[Row], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(rows) - 1))
    last = data.draw(st.integers(first, len(rows) - 1))
    left = rows[:first] + rows[last + 1 :]
    assert found(rows, left) == (first + 1, "missing")
    assert found(rows, renumbered(left)) == (first + 1, "missing")


@given(histories, contents(), st.data())
def test_what_is_put_in_is_added(rows: list[Row], extra: Row, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows)))
    extra = extra._replace(hash=data.draw(st.binary(min_size=32, max_size=32)))
    assert found(rows, renumbered([*rows[:at], extra, *rows[at:]])) == (at + 1, "added")
    before = rows[at - 1].hash if at else GENESIS
    [fitting] = chained([extra._replace(position=at + 1)], before)
    assert found(rows, renumbered([*rows[:at], fitting, *rows[at:]])) == (at + 1, "added")


@given(histories, contents(), st.integers(1, 5), st.data())
def test_a_position_that_is_there_twice_is_added(rows: list[Row], other: Row, by: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    copy = data.draw(st.sampled_from([rows[at], other._replace(position=at + 1, hash=bytes(32))]))
    twice = [*rows[: at + data.draw(st.integers(0, 1))], copy]
    assert found(rows, [*twice, *rows[len(twice) - 1 :]]) == (at + 1, "added")
    behind = len(rows) + by
    assert found(rows, [*rows, other._replace(position=behind, hash=bytes(32))]) == (behind, "added")


@given(longer, st.data())
def test_what_was_exchanged_is_swapped_and_both_are_named(rows: list[Row], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(rows) - 2))
    second = data.draw(st.integers(first + 1, len(rows) - 1))
    one, other = rows[first], rows[second]

    def exchanged(new_first: Row, new_second: Row) -> TamperFinding | None:
        changed = {one.position: new_first, other.position: new_second}
        return verified(rows, [changed.get(row.position, row) for row in rows])

    for misfit in (
        exchanged(other._replace(position=one.position), one._replace(position=other.position)),
        exchanged(
            other._replace(position=one.position, hash=one.hash), one._replace(position=other.position, hash=other.hash)
        ),
    ):
        assert misfit is not None
        assert (misfit.position, misfit.kind) == (first + 1, "swapped")
        assert f"with {second + 1}:" in misfit.detail
    assume(one.state != other.state)
    misfit = exchanged(one._replace(state=other.state), other._replace(state=one.state))
    assert misfit is not None
    assert (misfit.position, misfit.kind) == (first + 1, "swapped")
    assert f"with {second + 1}:" in misfit.detail


@given(longer, st.data())
def test_an_event_that_was_moved_is_found_where_the_order_differs_first(rows: list[Row], data: st.DataObject) -> None:
    order = data.draw(st.permutations(rows))
    differing = [position for position, (row, now) in enumerate(zip(rows, order, strict=True), 1) if row != now]
    assume(differing)
    assert found(rows, renumbered(order)) == (differing[0], "swapped")


@given(longer, st.lists(st.integers(0, 11), min_size=1, max_size=6), st.integers(1, 3))
def test_of_several_alterations_the_first_is_named(rows: list[Row], places: list[int], by: int) -> None:
    tampered = list(rows)
    changed = sorted({place % len(rows) for place in places})
    for at in changed:
        tampered[at] = tampered[at]._replace(version=tampered[at].version + by)
    assert found(rows, tampered) == (changed[0] + 1, "changed")


@given(longer, st.data())
def test_a_change_with_a_hash_that_fits_shows_at_the_next_event(rows: list[Row], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 2))
    changed = rows[at]._replace(state=rows[at].state + b" ")
    [changed] = chained([changed], rows[at - 1].hash if at else GENESIS)
    assert found(rows, [*rows[:at], changed, *rows[at + 1 :]]) == (at + 2, "changed")
    assert [row.position for row in rows] == [1, *(after.position for _, after in pairwise(rows))]
