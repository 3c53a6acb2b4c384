"""Tamper detection: verification names the first altered event of a log and the kind of the alteration."""

import struct
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise, product
from typing import Any, NamedTuple

from hypothesis import assume, given
from hypothesis import strategies as st

from infra.archive.row_format import COLUMNS, GENESIS
from infra.archive.verification.chains import ChainLink, RowLayout
from infra.archive.verification.tamper_detection import ChainBreak, TamperFinding, classify_break
from tests.choices import one_value

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
    """The bytes of a row that its hash covers."""
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


def copy_row(row: Row) -> bytes:
    """A row in the binary format of COPY."""
    return struct.pack(">h", len(COLUMNS) + 1) + canonical_bytes(row) + struct.pack(">i", len(row.hash)) + row.hash


def chained(rows: Sequence[Row], before: bytes = GENESIS) -> list[Row]:
    """Return the rows with correct hashes. ``before`` is the hash before the first row."""
    result = []
    for row in rows:
        before = sha256(before + canonical_bytes(row)).digest()
        result.append(row._replace(hash=before))
    return result


def renumbered(rows: Sequence[Row]) -> list[Row]:
    return [row._replace(position=position) for position, row in enumerate(rows, 1)]


def verify(original: Sequence[Row], tampered: Sequence[Row]) -> TamperFinding | None:
    """Verify tampered rows against the head of the original rows."""
    layout, end = RowLayout(LOG), len(original)
    rows = iter([copy_row(row) for row in sorted(tampered, key=lambda row: row.position)])
    link, row = layout.follow(ChainLink(0, GENESIS), rows, end)
    if row is None:
        row = next(rows, None)
    if row is None and link.position == end:
        return None
    return classify_break(ChainBreak(layout, link, end, original[-1].hash), row, rows)


def finding_of(original: Sequence[Row], tampered: Sequence[Row]) -> tuple[int, str]:
    finding = verify(original, tampered)
    assert finding is not None
    return finding.position, finding.kind


CONTENTS = [
    Row(0, recorded_at, stream, version, topic, "", source, correlation_id, origin, state, hash=b"")
    for recorded_at, stream, version, topic, source, correlation_id, origin, state in product(
        range(4),
        ("symbol-A", "symbol-Ä", ""),
        range(4),
        ("t:A", "t:B"),
        (None, "", "bench"),
        (None, "flow"),
        ("", "http"),
        (b"", b"{}", b'{"a":1}', bytes(range(64))),
    )
]
"""All contents without an id. One draw from them takes a fraction of the time of one draw per column."""


def row_contents() -> st.SearchStrategy[Row]:
    return st.builds(
        lambda content, identity: content._replace(event_id=f"{identity:016x}"),
        one_value(CONTENTS),
        st.integers(0, 2**64 - 1),
    )


def histories_of(min_size: int) -> st.SearchStrategy[list[Row]]:
    """Chained rows with unique event ids: rows with the same content could be exchanged without a trace."""
    rows = st.lists(row_contents(), min_size=min_size, max_size=12, unique_by=lambda row: row.event_id)
    return rows.map(renumbered).map(chained)


histories = histories_of(1)
long_histories = histories_of(3)
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
def test_an_unaltered_log_has_no_finding(rows: list[Row]) -> None:
    assert verify(rows, rows) is None


@given(histories, st.sampled_from(sorted(VALUES)), st.data())
def test_a_changed_column_is_found_at_its_position(rows: list[Row], column: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    row = rows[at]._replace(**{column: data.draw(VALUES[column])})
    assume(row != rows[at])
    assert finding_of(rows, [*rows[:at], row, *rows[at + 1 :]]) == (at + 1, "changed")


@given(histories, st.integers(-3, 20), st.data())
def test_an_event_with_another_position_is_missing_or_added(
    rows: list[Row], position: int, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    assume(position != at + 1)
    first, kind = finding_of(rows, [*rows[:at], rows[at]._replace(position=position), *rows[at + 1 :]])
    assert first == min(position, at + 1)
    assert kind == ("missing" if position > at + 1 else "added")


@given(histories, st.data())
def test_removed_events_are_missing(rows: list[Row], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(rows) - 1))
    last = data.draw(st.integers(first, len(rows) - 1))
    remaining = rows[:first] + rows[last + 1 :]
    assert finding_of(rows, remaining) == (first + 1, "missing")
    assert finding_of(rows, renumbered(remaining)) == (first + 1, "missing")


@given(histories, row_contents(), st.data())
def test_an_inserted_event_is_added(rows: list[Row], extra: Row, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows)))
    assume(extra.event_id not in {row.event_id for row in rows})
    extra = extra._replace(hash=data.draw(st.binary(min_size=32, max_size=32)))
    assert finding_of(rows, renumbered([*rows[:at], extra, *rows[at:]])) == (at + 1, "added")
    before = rows[at - 1].hash if at else GENESIS
    [chained_row] = chained([extra._replace(position=at + 1)], before)
    assert finding_of(rows, renumbered([*rows[:at], chained_row, *rows[at:]])) == (at + 1, "added")


@given(histories, row_contents(), st.integers(1, 5), st.data())
def test_a_second_event_at_a_position_is_added(rows: list[Row], other: Row, by: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    copy = data.draw(st.sampled_from([rows[at], other._replace(position=at + 1, hash=bytes(32))]))
    twice = [*rows[: at + data.draw(st.integers(0, 1))], copy]
    assert finding_of(rows, [*twice, *rows[len(twice) - 1 :]]) == (at + 1, "added")
    beyond_end = len(rows) + by
    assert finding_of(rows, [*rows, other._replace(position=beyond_end, hash=bytes(32))]) == (beyond_end, "added")


@given(long_histories, st.data())
def test_two_exchanged_events_are_swapped_and_both_positions_are_named(rows: list[Row], data: st.DataObject) -> None:
    first = data.draw(st.integers(0, len(rows) - 2))
    second = data.draw(st.integers(first + 1, len(rows) - 1))
    row, other = rows[first], rows[second]

    def exchanged(new_first: Row, new_second: Row) -> TamperFinding | None:
        changed = {row.position: new_first, other.position: new_second}
        return verify(rows, [changed.get(unchanged.position, unchanged) for unchanged in rows])

    for finding in (
        exchanged(other._replace(position=row.position), row._replace(position=other.position)),
        exchanged(
            other._replace(position=row.position, hash=row.hash), row._replace(position=other.position, hash=other.hash)
        ),
    ):
        assert finding is not None
        assert (finding.position, finding.kind) == (first + 1, "swapped")
        assert f"with {second + 1}:" in finding.detail
    assume(row.state != other.state)
    finding = exchanged(row._replace(state=other.state), other._replace(state=row.state))
    assert finding is not None
    assert (finding.position, finding.kind) == (first + 1, "swapped")
    assert f"with {second + 1}:" in finding.detail


@given(long_histories, st.data())
def test_a_changed_order_is_found_at_the_first_difference(rows: list[Row], data: st.DataObject) -> None:
    order = data.draw(st.permutations(rows))
    differing = [position for position, (row, now) in enumerate(zip(rows, order, strict=True), 1) if row != now]
    assume(differing)
    assert finding_of(rows, renumbered(order)) == (differing[0], "swapped")


@given(long_histories, st.lists(st.integers(0, 11), min_size=1, max_size=6), st.integers(1, 3))
def test_the_first_of_several_changes_is_named(rows: list[Row], indexes: list[int], by: int) -> None:
    tampered = list(rows)
    changed = sorted({index % len(rows) for index in indexes})
    for at in changed:
        tampered[at] = tampered[at]._replace(version=tampered[at].version + by)
    assert finding_of(rows, tampered) == (changed[0] + 1, "changed")


@given(long_histories, st.data())
def test_a_change_with_a_recomputed_hash_is_found_at_the_next_event(rows: list[Row], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 2))
    changed = rows[at]._replace(state=rows[at].state + b" ")
    [changed] = chained([changed], rows[at - 1].hash if at else GENESIS)
    assert finding_of(rows, [*rows[:at], changed, *rows[at + 1 :]]) == (at + 2, "changed")
    assert [row.position for row in rows] == [1, *(after.position for _, after in pairwise(rows))]
