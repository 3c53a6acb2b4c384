"""How costs grow with the number of active patterns, in one partition."""

from collections.abc import Sequence
from contextlib import ExitStack

from infra.bench.growth import archives, replicas, scans
from infra.bench.growth.measurements import Growth, Measurements
from infra.bench.growth.populations import Plan, fill, measure_rounds, open_populations
from infra.bench.processes import benchmark_servers


def measure(patterns: Sequence[int], rounds: int) -> list[Growth]:
    """Measure populations of different sizes.

    Args:
        patterns: The numbers of patterns.
        rounds: Number of rounds in which the populations alternate.
    """
    measured = Measurements()
    with (
        benchmark_servers(postgres=True) as (_, url, dsn),
        open_populations(url, [Plan(number, number, 1) for number in patterns]) as populations,
    ):
        for population in populations:
            fill(population, rounds, measured)
            archives.measure(population, dsn, measured)
        measure_rounds(populations, rounds, measured)
        scans.measure_redis(populations, rounds, measured)
        replicas.measure(populations, rounds, measured)
        with ExitStack() as running:
            apis = [running.enter_context(scans.start_api(each, measured)) for each in populations]
            scans.measure_http(apis, rounds, measured)
    return measured.growths()
