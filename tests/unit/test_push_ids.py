"""Ids of messages: read as they are written, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.versions import Build
from readapi.ports.commits import CommitId
from readapi.push.event_ids import TopicPosition, format_id, parse_id

numbers = st.integers(0, 10**15)
marks = st.dictionaries(
    st.integers(0, 63).map(lambda number: f"market-{number}"), st.builds(CommitId, numbers, numbers), max_size=4
)
places = st.builds(TopicPosition, st.builds(Build, st.integers(0, 99), st.integers(0, 999)), marks)


@given(places, places)
def test_an_id_is_read_as_it_was_written(patterns: TopicPosition, backtests: TopicPosition) -> None:
    assert parse_id(format_id({"patterns": patterns}), ["patterns"]) == {"patterns": patterns}
    both = format_id({"patterns": patterns, "backtests": backtests})
    assert parse_id(both, ["patterns", "backtests"]) == {"patterns": patterns, "backtests": backtests}


def test_an_id_says_build_position_and_number_as_redis_writes_them() -> None:
    place = TopicPosition(Build(1, 7), {"market-1": CommitId(77), "market-0": CommitId(1234, 2)})
    assert format_id({"patterns": place}) == "patterns:1.7/market-0=1234-2,market-1=77-0"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "1.1/market-0=1-0",
        "patterns:1/market-0=1-0",
        "patterns:1.1",
        "patterns:1.1/market-0=1",
        "patterns:1.1/market-0=1-0,",
        "patterns:1.1/market-0=-1-0",
        "patterns:1.1/market-0=1-0;",
        "patterns:1.1/market-0=1-0\n",
        "patterns:1.1/market-0=١-0",
        f"patterns:1.1/market-0={10**30}-0",
        "backtests:1.1/market-0=1-0",
        "patterns:1.1/market-0=1-0;backtests:1.1/market-0=1-0",
        "patterns:1.1/market-0=1-0;patterns:1.1/market-0=1-0",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"should be the id of a (received )?message"):
        parse_id(text, ["patterns"])


@given(places, places)
def test_a_place_covers_what_led_to_it(one: TopicPosition, other: TopicPosition) -> None:
    assert one.covers(one)
    if one.covers(other) and other.covers(one):
        assert one.build == other.build
        assert one.last_commits == other.last_commits
    further = TopicPosition(
        one.build, {log: CommitId(mark.position, mark.number + 1) for log, mark in one.last_commits.items()}
    )
    assert further.covers(one)
    assert one.covers(further) == (not one.last_commits)
