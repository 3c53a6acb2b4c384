"""Subscriptions with equal filters share the values of the filters, for as long as a subscription has them."""

import gc
from collections.abc import Iterator
from weakref import ref

from projections.queries import Equality, Filter, Range
from readapi.push.subscriptions import shared_filters


def filters(values: Iterator[str]) -> list[Filter]:
    return [Equality("symbol", frozenset(values)), Range("confidence", 0.5, None)]


def test_equal_values_are_shared_and_freed() -> None:
    first, second = (shared_filters(filters(map(str, range(10_000)))) for _ in range(2))
    other = shared_filters(filters(map(str, range(10_001))))
    assert first == second == tuple(filters(map(str, range(10_000))))
    assert isinstance(first[0], Equality)
    assert isinstance(second[0], Equality)
    assert isinstance(other[0], Equality)
    assert first[0].values is second[0].values
    assert first[0].values != other[0].values
    values = ref(first[0].values)
    del first, second
    gc.collect()
    assert values() is None
