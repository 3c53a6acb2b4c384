"""Pure functions of the API: short names, time spans, compact rows, cursors, positions."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.pattern_views import COMPACT, short_name
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import Cursor, ResultRow
from projections.views import Elapsed, Provenance, Remaining, RowKey, View, span
from readapi.http.cursors import Order, decode_cursor, encode_cursor
from readapi.http.problems import Problem
from readapi.http.read_model import highest_positions, parse_positions
from readapi.ports.read_models import format_positions

LOGS = st.from_regex("[a-z][a-z0-9-]{0,20}", fullmatch=True)
KEYS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"))
POSITIONS = st.dictionaries(LOGS, st.integers(0, 10**15 - 1), min_size=1, max_size=8)


def compact(row: PatternRow, now: float) -> dict[str, Any]:
    return COMPACT.render(ResultRow(row, "market-0", 17, row.id), now)


@pytest.mark.parametrize(
    ("pattern", "short"),
    [
        ("Weekly_Breakout", "WeeklyBO"),
        ("High_Volume_Surge", "HighVolSurge"),
        ("Ascending_Triangle", "AscTri"),
        ("bull flag", "BullFlag"),
        ("Head-and-Shoulders", "HeadAndShoulders"),
        ("Doji", "Doji"),
        ("ORB", "ORB"),
        ("_", "_"),
    ],
)
def test_a_pattern_name_is_shortened(pattern: str, short: str) -> None:
    assert short_name(pattern) == short


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3_599, "59m"), (3_600, "1h"), (86_399, "23h"), (86_400, "1d")],
)
def test_a_time_span_has_one_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_compact_row_has_the_field_names_and_texts_of_the_user_interface() -> None:
    row = PatternRow(
        id="AAPL:Weekly_Breakout:daily:1757001600000",
        symbol="AAPL",
        pattern="Weekly_Breakout",
        tier="daily",
        confidence=0.8549,
        detected_at=1_000.0,
        updated_at=1_000.0,
        expires_at=4_600.0,
        current_price=150.25,
        price_change=2.3,
        relative_strength=1.4,
        relative_volume=2.1,
    )
    assert compact(row, now=1_300.0) == {
        "id": "AAPL:Weekly_Breakout:daily:1757001600000",
        "symbol": "AAPL",
        "pattern": "WeeklyBO",
        "conf": 0.85,
        "rs": "1.4x",
        "vol": "2.1x",
        "price": "$150.25",
        "chg": "+2.3%",
        "time": "5m",
        "exp": "55m",
        "source": "daily",
    }


def test_missing_values_are_null_in_a_compact_row() -> None:
    row = PatternRow("A:Doji:daily:0", "A", "Doji", "daily", 1.0, 0.0, 0.0)
    assert {name for name, value in compact(row, 0.0).items() if value is None} == {"rs", "vol", "price", "chg", "exp"}


def test_a_negative_price_and_change_carry_their_sign() -> None:
    row = PatternRow("A:Doji:daily:0", "A", "Doji", "daily", 1.0, 0.0, 0.0, current_price=-37.63, price_change=-5.06)
    assert (compact(row, 0.0)["price"], compact(row, 0.0)["chg"]) == ("-$37.63", "-5.1%")


def test_a_full_row_has_the_compact_members_and_every_column() -> None:
    row = PatternRow("A:Doji:daily:0", "A", "Doji", "daily", 1.0, 0.0, 0.0, source="detector")
    full = ActivePatterns.views["full"].render(ResultRow(row, "market-0", 17, row.id), 0.0)
    assert full.items() >= compact(row, 0.0).items()
    renamed = {"pattern": "pattern_type", "source": "producer"}
    columns = {renamed.get(name, name): getattr(row, name) for name in ActivePatterns.columns}
    assert full == compact(row, 0.0) | columns | {"position": "market-0=17"}


def test_a_view_may_have_any_members() -> None:
    row = PatternRow("A:Doji:daily:0", "A", "Doji", "daily", 1.0, 0.0, 0.0)
    result = ResultRow(row, "market-0", 17, row.id)
    assert View().render(result, 0.0) == {}
    assert View(position=Provenance(), key=RowKey()).render(result, 0.0) == {"position": "market-0=17", "key": row.id}
    assert View(age=Elapsed("detected_at"), key=RowKey()).render(result, 60.0) == {"age": "1m", "key": row.id}
    assert View(left=Remaining("expires_at"), rsi="rsi").render(result, 0.0) == {"left": None, "rsi": None}


@given(st.floats(allow_nan=False, allow_infinity=False) | st.just(-math.inf), KEYS)
def test_a_cursor_survives_encoding_and_is_bound_to_its_order(value: float, key: str) -> None:
    order = Order("rs", "asc", "number", "relative_strength")
    cursor = encode_cursor(Cursor(value, key), order)
    assert decode_cursor(cursor, order) == Cursor(value, key)
    assert cursor.isascii()
    assert not set(cursor) - set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    with pytest.raises(ValueError, match="use the same order"):
        decode_cursor(cursor, order._replace(sort_order="desc"))


@given(st.text())
def test_any_other_text_is_refused_as_a_cursor(text: str) -> None:
    with pytest.raises(ValueError, match="not a valid cursor"):
        decode_cursor(text, Order("symbol", "asc", "text", "symbol"))


@given(POSITIONS)
def test_positions_survive_formatting(positions: dict[str, int]) -> None:
    assert parse_positions(format_positions(positions)) == positions


@given(st.text())
def test_any_other_text_is_refused_as_positions(text: str) -> None:
    with pytest.raises(Problem, match="should be like market-0=12"):
        parse_positions(f"{text}=")


@given(st.lists(st.tuples(LOGS, st.integers(0, 9)), min_size=1))
def test_the_highest_position_of_each_log_is_returned(pairs: list[tuple[str, int]]) -> None:
    assert highest_positions(pairs) == {
        log: max(position for other, position in pairs if other == log) for log, _ in pairs
    }
