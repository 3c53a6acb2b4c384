"""The growth of the replica of the patterns: its memory, its build, its scans after changes and its counts."""

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

from rich.progress import track

from infra.bench.growth.measurements import LINEAR, Measurements, Quantity, spent
from infra.bench.growth.populations import SizedPopulation
from infra.bench.measurement import PROGRESS_CONSOLE
from infra.bench.scans import SCAN_KINDS
from infra.read_models.keys import SegmentKeys
from infra.serving.replicas import PAGE_ROWS
from projections.patterns import ActivePatterns
from readapi.replica.replica import Replica

ROWS_PER_CALL = 1_000
"""Approximate number of rows per HSCAN call."""

CHANGED_ROWS = 10
"""Number of rows that change before each scan."""

SAMPLE = 10_000
"""Highest number of rows from which the changed rows are chosen."""

BUILD = Quantity("replica: build", "s", LINEAR)
BYTES = Quantity("replica: memory", "bytes/pattern")
COUNTS = Quantity("replica: all counts after a change", "µs", LINEAR)


class _Replica(NamedTuple):
    population: SizedPopulation
    replica: Replica
    log: str
    sample: list[tuple[str, bytes]]


def measure(populations: Sequence[SizedPopulation], rounds: int, measured: Measurements) -> None:
    """Measure replicas of the populations in this process. The populations alternate after each query.

    Args:
        populations: The populations, each with one partition.
        rounds: Number of rounds, each with every query.
        measured: Receives the measured costs.
    """
    replicas = [_build(population, measured) for population in populations]
    asyncio.run(_measure_queries(replicas, rounds, measured))


def _build(population: SizedPopulation, measured: Measurements) -> _Replica:
    [segment] = population.segments
    rows: Any = population.client.hscan_iter(SegmentKeys(segment).rows, count=ROWS_PER_CALL)
    replica = Replica(ActivePatterns())
    sample: list[tuple[str, bytes]] = []
    seconds = 0.0
    while page := [(key.decode(), document) for key, document in islice(rows, PAGE_ROWS)]:
        seconds += spent(time.process_time, lambda page=page: replica.put(segment.log, page))  # type: ignore[misc]
        sample += page[: max(0, SAMPLE - len(sample))]
    seconds += spent(time.process_time, lambda: replica.prepare(time.time()))
    measured.add(BUILD, population.size, seconds)
    measured.add(BYTES, population.size, replica.nbytes / len(replica))
    return _Replica(population, replica, segment.log, sample)


async def _measure_queries(replicas: Sequence[_Replica], rounds: int, measured: Measurements) -> None:
    chance = random.Random(1)  # noqa: S311 not for security
    names = [*(column.count for column in ActivePatterns().columns.values() if column.equality)]
    for _ in track(range(rounds), "scanning replicas in turns", transient=True, console=PROGRESS_CONSOLE):
        for kind in SCAN_KINDS:
            for population, replica, log, sample in replicas:
                query = kind.vary(chance, population.symbols)[0]._replace(now=time.time())
                replica.put(log, chance.sample(sample, CHANGED_ROWS))
                started = time.thread_time()
                await replica.page(query)
                quantity = Quantity(f"replica: scan {kind.name} after a change", "µs", LINEAR)
                measured.add(quantity, population.size, (time.thread_time() - started) * 1e6)
        for population, replica, log, sample in replicas:
            replica.put(log, chance.sample(sample, 1))
            started = time.thread_time()
            await replica.counts(names, time.time())
            measured.add(COUNTS, population.size, (time.thread_time() - started) * 1e6)
