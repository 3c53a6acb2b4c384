"""Origins of events: the words that a log stores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.origins import Origin, Sender, format_origin, parse_origin

SUBJECTS = st.from_regex("[!-~]{1,20}", fullmatch=True)
LETTERS = st.from_regex("[0-9a-f]{32}", fullmatch=True)


@given(
    st.sampled_from(["http", "retry", "cli", "pubsub"]),
    st.none() | st.builds(Sender, SUBJECTS, st.none() | SUBJECTS),
    st.none() | LETTERS,
    st.sampled_from([None, "confidence", "progress"]),
)
def test_a_parsed_origin_has_the_parts_of_the_formatted_one(
    via: str, sender: Sender | None, letter: str | None, percent: str | None
) -> None:
    origin = parse_origin(format_origin(via, sender.words if sender else "", letter, percent))
    assert origin == Origin(via, *(sender or (None, None)), letter, percent)


@pytest.mark.parametrize(
    ("stored", "parts"),
    [("", (None, None)), ("expirer", ("expirer", None)), ("http 0f", ("http", "0f"))],
)
def test_origins_of_earlier_releases_have_no_sender(stored: str, parts: tuple[str | None, str | None]) -> None:
    origin = parse_origin(stored)
    assert (origin.via, origin.dead_letter, origin.subject, origin.token) == (*parts, None, None)
