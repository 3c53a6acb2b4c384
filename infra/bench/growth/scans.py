"""The growth of queries: over HTTP to API processes, and on the indexes in Redis."""

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import uvloop
from rich.progress import track

from infra.bench.contenders.launcher import RunningContender
from infra.bench.growth.measurements import (
    FLAT,
    LINEAR,
    Clock,
    Measurements,
    Quantity,
    process_clock,
    server_clock,
    spent,
)
from infra.bench.growth.populations import SizedPopulation
from infra.bench.http_load import RequestRun, encode_request
from infra.bench.measurement import PROGRESS_CONSOLE
from infra.bench.processes import serve_api
from infra.bench.query import resident_bytes, wait_until_loaded
from infra.bench.scans import SCAN_KINDS, varied_paths
from infra.embedded.tcp_ports import find_free_port
from infra.read_models.row_queries import RedisRowQueries
from infra.redis.connections import connect_async
from projections.patterns import ActivePatterns

CONNECTIONS = 8
"""Number of connections of a run of requests."""

REQUESTS = 1_000
"""Number of requests of a run. They take tens of the clock's ticks of 10 ms."""

RUN_SECONDS = 60.0
"""Seconds after which a run ends, although requests are left."""

REDIS_QUERIES = 10
"""Number of queries on the indexes in Redis of a round."""

START = Quantity("API start: until the replica answers", "s", LINEAR)
RESIDENT = Quantity("API process: resident memory", "MB", LINEAR)
REDIS_COUNTS = Quantity("counts on the indexes in Redis", "µs", FLAT)


class RunningApi(NamedTuple):
    """An API process of a population."""

    population: SizedPopulation
    port: int
    clock: Clock
    pid: int


@contextmanager
def start_api(population: SizedPopulation, measured: Measurements) -> Iterator[RunningApi]:
    """Run an API process until the context ends. Measure its processor time until the replica answers."""
    port = find_free_port("127.0.0.1")
    settings = {
        "api_processes": 1,
        "partitions": population.settings.partitions,
        "replica_max_rows": 2 * population.patterns,
    }
    with serve_api(str(population.settings.redis_url), port, **settings) as pid:
        wait_until_loaded(RunningContender("replica", port, pid), population.patterns)
        clock = process_clock(pid)
        measured.add(START, population.size, clock())
        yield RunningApi(population, port, clock, pid)


def measure_http(apis: Sequence[RunningApi], rounds: int, measured: Measurements) -> None:
    """Measure the processor time of an API process per answer. The processes alternate after each run of requests.

    Args:
        apis: The API processes.
        rounds: Number of rounds, each with every kind of scan.
        measured: Receives the measured costs.
    """
    for turn in track(range(rounds), "scanning over HTTP in turns", transient=True, console=PROGRESS_CONSOLE):
        for kind in SCAN_KINDS:
            for api in apis:
                paths = islice(varied_paths(kind.name, api.population.symbols, turn), REQUESTS)
                run = RequestRun(api.port, [encode_request(path) for path in paths])
                cost = spent(api.clock, lambda run=run: uvloop.run(run.run(CONNECTIONS, RUN_SECONDS)))  # type: ignore[misc]
                quantity = Quantity(f"scan {kind.name} over HTTP: API process", "µs")
                measured.add(quantity, api.population.size, cost / run.answers * 1e6)
    for api in apis:
        measured.add(RESIDENT, api.population.size, resident_bytes(api.pid) / 1e6)


def measure_redis(populations: Sequence[SizedPopulation], rounds: int, measured: Measurements) -> None:
    """Measure the processor time of the server per query on the indexes in Redis, which answer without a replica."""
    uvloop.run(_measure_redis(populations, rounds, measured))


async def _measure_redis(populations: Sequence[SizedPopulation], rounds: int, measured: Measurements) -> None:
    chance = random.Random(1)  # noqa: S311 not for security
    for _ in track(range(rounds), "scanning Redis in turns", transient=True, console=PROGRESS_CONSOLE):
        for population in populations:
            async with connect_async(str(population.settings.redis_url)) as client:
                queries = RedisRowQueries(client, ActivePatterns(), population.segments[0].build, list(population.logs))
                clock = server_clock(population.client)
                for kind in SCAN_KINDS:
                    before = clock()
                    for _ in range(REDIS_QUERIES):
                        await queries.page(kind.vary(chance, population.symbols)[0]._replace(now=time.time()))
                    quantity = Quantity(f"scan {kind.name} on the indexes in Redis", "µs", LINEAR)
                    measured.add(quantity, population.size, (clock() - before) / REDIS_QUERIES * 1e6)
                before = clock()
                for _ in range(REDIS_QUERIES):
                    await queries.counts(["by_type", "by_symbol"], time.time())
                measured.add(REDIS_COUNTS, population.size, (clock() - before) / REDIS_QUERIES * 1e6)
