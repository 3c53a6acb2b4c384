"""Origins of events: the words that a log stores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.origins import Origin, Sender, format_origin, is_traceparent, parse_origin, trace_of

SUBJECTS = st.from_regex("[!-~]{1,20}", fullmatch=True)
TRACES = st.from_regex("00-[1-9a-f]{32}-[1-9a-f]{16}-0[01]", fullmatch=True)
LETTERS = st.from_regex("[0-9a-f]{32}", fullmatch=True)


@given(
    st.sampled_from(["http", "retry", "cli", "pubsub"]),
    st.none() | st.builds(Sender, SUBJECTS, st.none() | SUBJECTS),
    st.none() | LETTERS,
    st.sampled_from([None, "confidence", "progress"]),
    st.none() | TRACES,
)
def test_a_parsed_origin_has_the_parts_of_the_formatted_one(
    via: str, sender: Sender | None, letter: str | None, percent: str | None, trace: str | None
) -> None:
    stored = format_origin(via, sender.words if sender else "", letter, percent, trace)
    assert parse_origin(stored) == Origin(via, *(sender or (None, None)), letter, percent, trace)
    assert trace_of(stored) == trace


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        "00-" + "0" * 32 + "-1234567890abcdef-01",
        "00-1234567890abcdef1234567890abcdef-" + "0" * 16 + "-01",
        "00-1234567890ABCDEF1234567890abcdef-1234567890abcdef-01",
        "00-1234567890abcdef1234567890abcdef-1234567890abcdef-01 http",
        "ff-1234567890abcdef1234567890abcdef-1234567890abcdef-01",
    ],
)
def test_what_is_no_traceparent(value: object) -> None:
    assert not is_traceparent(value)
    assert is_traceparent("00-1234567890abcdef1234567890abcdef-1234567890abcdef-01")


@pytest.mark.parametrize(
    ("stored", "parts"),
    [("", (None, None)), ("expirer", ("expirer", None)), ("http 0f", ("http", "0f"))],
)
def test_origins_of_earlier_releases_have_no_sender(stored: str, parts: tuple[str | None, str | None]) -> None:
    origin = parse_origin(stored)
    assert (origin.via, origin.dead_letter, origin.subject, origin.token) == (*parts, None, None)
