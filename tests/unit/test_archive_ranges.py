"""The ends of an archive range: positions or times. Other texts are refused with the reason."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.archive.ranges import LAST_POSITION, ArchiveRange, check_range, iso_milliseconds, parse_range_end

zones = st.integers(-720, 720).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.integers(1, LAST_POSITION))
def test_an_integer_is_parsed_as_a_position(position: int) -> None:
    assert parse_range_end(str(position)) == position


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1), timezones=zones))  # noqa: DTZ001
def test_a_time_is_parsed_to_utc(moment: datetime) -> None:
    parsed = parse_range_end(moment.isoformat())
    assert parsed == moment
    assert isinstance(parsed, datetime)
    assert parsed.tzinfo is UTC
    naive = moment.replace(tzinfo=None)
    assert parse_range_end(naive.isoformat()) == naive.replace(tzinfo=UTC)
    assert abs(parse_range_end(iso_milliseconds(moment)) - moment) < timedelta(milliseconds=1)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", str(LAST_POSITION + 1), "yesterday", "2026-13-01", "٣x"])
def test_a_text_that_is_no_position_and_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        parse_range_end(text)


def test_a_range_that_ends_before_its_beginning_is_refused() -> None:
    day = datetime(2026, 1, 1, tzinfo=UTC)
    for archive_range in (
        ArchiveRange(1, 1),
        ArchiveRange(day, day),
        ArchiveRange(9, day),
        ArchiveRange(day, 1),
        ArchiveRange(9, None),
    ):
        check_range(archive_range)
    for archive_range in (ArchiveRange(2, 1), ArchiveRange(day + timedelta(1), day)):
        with pytest.raises(ValueError, match="before it begins"):
            check_range(archive_range)
