"""Event ids of live push: formatting, parsing, and comparing of positions."""

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
topic_positions = st.builds(TopicPosition, st.builds(Build, st.integers(0, 99), st.integers(0, 999)), marks)


@given(topic_positions, topic_positions)
def test_an_id_survives_formatting(patterns: TopicPosition, backtests: TopicPosition) -> None:
    assert parse_id(format_id({"patterns": patterns}), ["patterns"]) == {"patterns": patterns}
    both = format_id({"patterns": patterns, "backtests": backtests})
    assert parse_id(both, ["patterns", "backtests"]) == {"patterns": patterns, "backtests": backtests}


def test_an_id_has_the_build_and_for_each_log_the_position_and_number() -> None:
    position = TopicPosition(Build(1, 7), {"market-1": CommitId(77), "market-0": CommitId(1234, 2)})
    assert format_id({"patterns": position}) == "patterns:1.7/market-0=1234-2,market-1=77-0"


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
def test_any_other_text_is_refused_as_an_id(text: str) -> None:
    with pytest.raises(ValueError, match=r"should be the id of a (received )?message"):
        parse_id(text, ["patterns"])


@given(topic_positions, topic_positions)
def test_a_position_covers_itself_and_earlier_positions(position: TopicPosition, other: TopicPosition) -> None:
    assert position.covers(position)
    if position.covers(other) and other.covers(position):
        assert position.build == other.build
        assert position.last_commits == other.last_commits
    later = TopicPosition(
        position.build, {log: CommitId(mark.position, mark.number + 1) for log, mark in position.last_commits.items()}
    )
    assert later.covers(position)
    assert position.covers(later) == (not position.last_commits)
