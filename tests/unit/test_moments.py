"""Moments as parameters: understood as they are meant, or refused with what to do."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from readapi.http.parameters import parse_parameters
from readapi.http.problems import Problem
from readapi.patterns.scan_parameters import ScanParameters

NINE = datetime(2026, 11, 25, 9, tzinfo=UTC).timestamp()
zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


def moment(given: str) -> float | None:
    return parse_parameters(ScanParameters, {"as_of": given}).as_of


@pytest.mark.parametrize(
    "given",
    [
        "2026-11-25T09:00:00Z",
        "2026-11-25T09:00:00",
        "2026-11-25T09:00",
        "2026-11-25T09:00:00.000000",
        "2026-11-25T10:00:00+01:00",
        "2026-11-25T04:00:00-0500",
        f"{NINE:.0f}",
        f"{NINE:.6f}",
    ],
)
def test_nine_in_the_morning_of_utc(given: str) -> None:
    assert moment(given) == NINE


def test_a_date_is_its_midnight_in_utc() -> None:
    assert moment("2026-11-25") == NINE - 9 * 3_600


@given(st.datetimes().filter(lambda time: 1970 < time.year < 9999), zones)
def test_what_python_writes_is_read(time: datetime, zone: timezone) -> None:
    assert moment(time.replace(tzinfo=zone).isoformat()) == time.replace(tzinfo=zone).timestamp()


@given(st.floats(0, 253402300799))
def test_every_epoch_second_is_taken_as_it_is(seconds: float) -> None:
    assert moment(repr(seconds)) == seconds


@pytest.mark.parametrize(
    ("given", "says"),
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
        ("2026-11-25T09:00:00.123456789Z", "such as"),
        ("2026-W48-3", "such as"),
        ("٢٠٢٦-11-25", "such as"),
        ("9999-12-31T23:59:59-05:00", "less than"),
        ("0001-01-01", "greater than or equal to 0"),
    ],
)
def test_what_is_no_moment_is_refused(given: str, says: str) -> None:
    with pytest.raises(Problem) as refused:
        moment(given)
    assert says in str(refused.value)
    assert [error["field"] for error in refused.value.errors] == ["as_of"]


def test_there_is_one_moment() -> None:
    with pytest.raises(Problem, match="as_of_valid cannot be combined with as_of"):
        parse_parameters(ScanParameters, {"as_of": "2026-11-25", "as_of_valid": "2026-11-25"})
    assert parse_parameters(ScanParameters, {"as_of": "5"}).past == ("recorded", 5)
    assert parse_parameters(ScanParameters, {"as_of_valid": "0"}).past == ("valid", 0)
    assert parse_parameters(ScanParameters, {}).past is None
