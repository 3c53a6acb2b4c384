"""What benchmarks measure with: rates of batches, quantiles of times."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")

PROGRESS = Console(stderr=True)
"""Where progress is shown: not among the results."""


class Throughput(NamedTuple):
    """How fast something went."""

    name: str
    per_second: float
    share: float | None = None
    """Of the limit measured in the same run, 1 being the limit; None for the limit itself."""


def batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """The items in runs of ``size``, the last one shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def rate(name: str, parts: Iterable[Sequence[Item]], work: Callable[[Sequence[Item]], object]) -> Throughput:
    """Items per second while ``work`` deals with the parts one after the other."""
    done = 0
    started = time.perf_counter()
    for part in track(list(parts), description=name, transient=True, console=PROGRESS):
        work(part)
        done += len(part)
    return Throughput(name, done / (time.perf_counter() - started))


def beside(limit: Throughput, *measured: Throughput) -> list[Throughput]:
    """The limit, then what was measured with its share of it."""
    return [limit, *(one._replace(share=one.per_second / limit.per_second) for one in measured)]


def quantile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]
