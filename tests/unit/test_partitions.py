"""The number of partitions of the market log, and the logs in which a stream can be after raises."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.partitions import MAX_PARTITIONS, Partitions, other_logs_of
from domain.streams import OPERATIONS_STREAM, log_of, user_stream

numbers = st.integers(1, MAX_PARTITIONS)
partitions = st.tuples(numbers, numbers).map(lambda pair: Partitions(max(pair), min(pair)))
streams = st.text(min_size=1).map(lambda name: f"symbol-{name}")


@given(streams, st.sets(numbers, min_size=1))
def test_a_stream_is_in_a_log_that_a_recorder_asks_whichever_raise_preceded_it(name: str, history: set[int]) -> None:
    known = Partitions(max(history), min(history))
    places = {log_of(name, number) for number in history}
    assert places <= {log_of(name, known.number), *other_logs_of(name, known)}
    assert log_of(name, known.number) not in other_logs_of(name, known)
    assert set(other_logs_of(name, known)) <= set(known.names)


@given(streams, numbers)
def test_without_a_raise_no_other_log_is_asked(name: str, number: int) -> None:
    assert other_logs_of(name, Partitions.of(number)) == []


@given(partitions)
def test_streams_outside_of_the_market_have_one_log(known: Partitions) -> None:
    assert [other_logs_of(name, known) for name in (user_stream("alice"), OPERATIONS_STREAM)] == [[], []]


@given(partitions)
def test_the_text_of_a_number_is_parsed_to_the_number(known: Partitions) -> None:
    assert Partitions.parse(str(known)) == known
    assert known.was_raised == ("-" in str(known))


@pytest.mark.parametrize(("known", "text"), [(Partitions.of(4), "4"), (Partitions(8, 4), "4-8")])
def test_texts_of_numbers(known: Partitions, text: str) -> None:
    assert str(known) == text


@given(partitions, partitions, partitions)
def test_merging_gives_the_same_result_in_any_order_and_any_number_of_times(
    first: Partitions, second: Partitions, third: Partitions
) -> None:
    merged = first.merged(second).merged(third)
    assert merged == third.merged(first).merged(second)
    assert merged == merged.merged(second)
    assert all(merged.fits(each) and each.fits(merged) for each in (first, second, third))


@given(partitions, partitions)
def test_two_numbers_fit_if_the_log_may_have_had_one_number_of_both(first: Partitions, second: Partitions) -> None:
    had = [set(range(each.created, each.number + 1)) for each in (first, second)]
    assert first.fits(second) == bool(had[0] & had[1])
