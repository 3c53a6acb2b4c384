"""Times as query parameters: accepted forms, and refusals that say what to send instead."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readapi.audit.parameters import parse_bound
from readapi.http.parameters import YEAR_10_000, parse_parameters
from readapi.http.problems import Problem
from readapi.patterns.scan_parameters import ScanParameters

NINE = datetime(2026, 11, 25, 9, tzinfo=UTC).timestamp()
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def parse_moment(text: str) -> float | None:
    return parse_parameters(ScanParameters, {"as_of": text}).as_of


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-25T09:00:00Z",
        "2026-11-25T09:00:00",
        "2026-11-25T09:00",
        "2026-11-25T09:00:00.000000",
        "2026-11-25T09:00:00.0000000Z",
        "2026-11-25T09:00:00.000000999Z",
        "2026-11-25T10:00:00+01:00",
        "2026-11-25T04:00:00-0500",
        f"{NINE:.0f}",
        f"{NINE:.6f}",
    ],
)
def test_every_form_of_a_time_is_the_same_moment(text: str) -> None:
    assert parse_moment(text) == NINE


def test_a_date_is_midnight_utc() -> None:
    assert parse_moment("2026-11-25") == NINE - 9 * 3_600


@given(st.datetimes().filter(lambda time: 1970 < time.year < 9999), zones)
def test_the_iso_format_of_python_is_read(time: datetime, zone: timezone) -> None:
    assert parse_moment(time.replace(tzinfo=zone).isoformat()) == time.replace(tzinfo=zone).timestamp()


@given(st.floats(0, 253402300799))
def test_seconds_since_the_epoch_are_read(seconds: float) -> None:
    assert parse_moment(repr(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "reason_part"),
    [
        ("2026-11-25T09:00:00 01:00", "%2B"),
        ("2026-11-25 09:00:00", "should have a T between"),
        ("2026-11-25 01:00", "%2B"),
        ("yesterday", "such as 2026-11-25T09:00:00Z"),
        ("", "such as 2026-11-25T09:00:00Z"),
        (" ", "such as 2026-11-25T09:00:00Z"),
        ("nan", "such as"),
        ("-1", "greater than or equal to 0"),
        ("1969-12-31", "greater than or equal to 0"),
        ("1e999", "finite"),
        ("1e12", "less than"),
        ("2026-13-01", "month"),
        ("2026-11-25T25:00", "hour"),
        ("2026-11-25T09:00:00+99:00", "should be a time such as"),
        ("2026-W48-3", "such as"),
        ("٢٠٢٦-11-25", "such as"),
        ("9999-12-31T23:59:59-05:00", "before the year 10000"),
        ("0001-01-01", "greater than or equal to 0"),
    ],
)
def test_any_other_text_is_refused_as_a_time(text: str, reason_part: str) -> None:
    with pytest.raises(Problem) as refused:
        parse_moment(text)
    assert reason_part in str(refused.value)
    assert [error["field"] for error in refused.value.errors] == ["as_of"]


def test_a_bound_of_the_history_is_before_the_year_10000() -> None:
    assert parse_bound("9999-12-31T23:59:59+00:01") < YEAR_10_000
    with pytest.raises(ValueError, match="before the year 10000"):
        parse_bound("9999-12-31T23:59:59-00:01")


def test_a_scan_has_at_most_one_time_in_the_past() -> None:
    with pytest.raises(Problem, match="as_of_valid cannot be combined with as_of"):
        parse_parameters(ScanParameters, {"as_of": "2026-11-25", "as_of_valid": "2026-11-25"})
    assert parse_parameters(ScanParameters, {"as_of": "5"}).past == ("recorded", 5)
    assert parse_parameters(ScanParameters, {"as_of_valid": "0"}).past == ("valid", 0)
    assert parse_parameters(ScanParameters, {}).past is None
