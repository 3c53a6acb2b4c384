"""Measurements of growing costs: the cost of a quantity at several sizes, and the exponent of its growth."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from math import log
from statistics import linear_regression, median
from typing import Any, NamedTuple

from redis import Redis

FLAT, LINEAR = 0.0, 1.0
"""Exponents: the cost does not depend on the size; the cost is proportional to the size."""

Clock = Callable[[], float]
"""Function that returns the processor time that a process has used so far, in seconds."""


class Quantity(NamedTuple):
    """A measured quantity. ``bound`` is the exponent that its growth must not exceed, as TickView states it."""

    name: str
    unit: str
    bound: float = FLAT


class Growth(NamedTuple):
    """The cost of a quantity at each size."""

    quantity: Quantity
    costs: dict[int, float]
    """Size -> median of the measured costs, in the unit of the quantity."""

    @property
    def exponent(self) -> float | None:
        """The exponent of the growth. None for a single size."""
        return growth_exponent(list(self.costs), list(self.costs.values()))


def growth_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """Return the exponent e of the function ``c * size ** e`` that fits the costs best.

    It is the slope of log(cost) over log(size), by the method of least squares: 0 for a flat cost, 1 for a linear one.

    Args:
        sizes: The sizes, above 0.
        costs: The cost at each size, above 0.

    Returns:
        The exponent. None if there are fewer than two sizes, or if a cost is too small for the measurement.
    """
    if len(set(sizes)) < 2 or min(costs) <= 0:
        return None
    return linear_regression([log(size) for size in sizes], [log(cost) for cost in costs]).slope


class Measurements:
    """The measured costs of all quantities, in the order in which the quantities were measured first."""

    def __init__(self) -> None:
        self._costs: dict[Quantity, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))

    def add(self, quantity: Quantity, size: int, cost: float) -> None:
        """Add a measured cost of a quantity at a size."""
        self._costs[quantity][size].append(cost)

    def growths(self) -> list[Growth]:
        """Return the growth of every quantity, with the median of its costs at each size."""
        return [
            Growth(quantity, {size: median(values) for size, values in costs.items()})
            for quantity, costs in self._costs.items()
        ]


def server_clock(client: Redis) -> Clock:
    """Return the clock of a server's main thread, which runs all commands."""

    def read() -> float:
        used: Any = client.info("cpu")
        return float(used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"])

    return read


def process_clock(pid: int) -> Clock:
    """Return the clock of a process and of its child processes."""
    import psutil  # The commands that need it come with the embedded servers.

    process = psutil.Process(pid)

    def read() -> float:
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        return float(sum(each.user + each.system for each in times))

    return read


def spent(clock: Clock, work: Callable[[], object]) -> float:
    """Do some work, and return the processor time that it took by a clock, in seconds."""
    before = clock()
    work()
    return clock() - before
