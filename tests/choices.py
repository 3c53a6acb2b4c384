"""A strategy of Hypothesis for one of many values."""

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


def one_value(values: Sequence[T]) -> st.SearchStrategy[T]:
    """Draw one of the values.

    ``sampled_from`` lists all values in its representation, which Hypothesis makes when it repeats a draw. Hypothesis
    warns of a long one.
    """
    return st.integers(0, len(values) - 1).map(lambda number: values[number])
