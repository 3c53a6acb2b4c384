"""How costs grow with the number of partitions, while the patterns stay the same."""

from collections.abc import Sequence
from contextlib import ExitStack

from infra.bench.growth import idle_roles, scans
from infra.bench.growth.measurements import Growth, Measurements
from infra.bench.growth.populations import Plan, fill, measure_rounds, open_populations
from infra.bench.processes import benchmark_servers

PATTERNS = 10_000
"""Number of patterns of every population."""

IDLE_SECONDS = 5.0
"""Seconds for which each idle process is watched."""


def measure(partitions: Sequence[int], rounds: int) -> list[Growth]:
    """Measure populations of the same patterns in different numbers of partitions.

    Args:
        partitions: The numbers of partitions.
        rounds: Number of rounds in which the populations alternate.
    """
    measured = Measurements()
    with (
        benchmark_servers() as (_, url, _),
        open_populations(url, [Plan(number, PATTERNS, number) for number in partitions]) as populations,
        ExitStack() as running,
    ):
        for population in populations:
            fill(population, rounds, measured)
        measure_rounds(populations, rounds, measured)
        scans.measure_redis(populations, rounds, measured)
        apis = [running.enter_context(scans.start_api(each, measured)) for each in populations]
        scans.measure_http(apis, rounds, measured)
        idle_roles.measure_apis(apis, IDLE_SECONDS, measured)
        running.close()
        idle_roles.measure_workers(populations, IDLE_SECONDS, measured)
    return measured.growths()
