"""Scenarios of the simulation: the load, the sizes of the service, its measured costs, and what goes wrong."""

import random
from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

from domain.streams import log_of, market_logs, symbol_stream
from infra.bench.detections import symbol


class Cost(NamedTuple):
    """The cost of a batch of events, in seconds."""

    batch: float
    event: float

    def of(self, events: int) -> float:
        """Return the cost of a batch with this number of events."""
        return self.batch + self.event * events


class Costs(NamedTuple):
    """The costs of the parts. ``make simulation`` measures them before it simulates."""

    record: Cost
    """A batch in the recorder's process."""
    append: Cost
    """A batch of one log in Redis, until the events are on disk."""
    fold: Cost
    """A batch in the worker's process."""
    commit: Cost
    """A batch of one segment in Redis, until the rows are on disk."""


class Stall(NamedTuple):
    """A worker that does nothing for some time, and then continues where it was."""

    worker: int
    at: float
    seconds: float


class Failover(NamedTuple):
    """A time without one of the primary servers, from its loss until a replica was promoted."""

    at: float
    seconds: float
    primary: int = 0


class Scenario(NamedTuple):
    """A scenario. All times are in seconds after its start."""

    costs: Costs
    rate: float
    """Mean number of events per second. Events arrive independently of each other."""
    seconds: float
    """Time during which events arrive."""
    partitions: int = 4
    workers: int = 2
    recorders: int = 1
    primaries: int = 1
    """Number of primary servers over which the partitions are spread evenly."""
    symbols: int = 4_000
    skew: float = 1.0
    """Exponent of Zipf's law: the symbol of rank k has a share of the events that is proportional to ``k ** -skew``."""
    lease_seconds: float = 5.0
    record_batch: int = 500
    fold_batch: int = 1_000
    stalls: tuple[Stall, ...] = ()
    failovers: tuple[Failover, ...] = ()
    seed: int = 1


class Arrival(NamedTuple):
    """An event that a producer sends."""

    at: float
    symbol: str
    log: str


def zipf_shares(symbols: int, skew: float) -> list[float]:
    """Return the share of each symbol in the events, by Zipf's law, the most frequent first."""
    weights = [rank**-skew for rank in range(1, symbols + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def log_shares(scenario: Scenario) -> dict[str, float]:
    """Return the expected share of each log in the events."""
    shares = dict.fromkeys(market_logs(scenario.partitions), 0.0)
    for number, share in enumerate(zipf_shares(scenario.symbols, scenario.skew)):
        shares[_log(symbol(number), scenario.partitions)] += share
    return shares


def arrivals(scenario: Scenario) -> Iterator[Arrival]:
    """Yield the events of a scenario in the order of their arrival. Equal scenarios have equal events."""
    chance = random.Random(scenario.seed)
    limits = list(accumulate(zipf_shares(scenario.symbols, scenario.skew)))
    logs = [_log(symbol(number), scenario.partitions) for number in range(scenario.symbols)]
    at = chance.expovariate(scenario.rate)
    while at < scenario.seconds:
        number = min(bisect(limits, chance.random()), scenario.symbols - 1)
        yield Arrival(at, symbol(number), logs[number])
        at += chance.expovariate(scenario.rate)


def _log(name: str, partitions: int) -> str:
    return log_of(symbol_stream(name), partitions)
