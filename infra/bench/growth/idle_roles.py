"""The growth of what a worker and an API process cost while no event arrives."""

import time
from collections.abc import Callable, Sequence

from rich.progress import track

from infra.bench.errors import BenchmarkError
from infra.bench.growth.measurements import LINEAR, Clock, Measurements, Quantity, process_clock, server_clock, spent
from infra.bench.growth.populations import SizedPopulation
from infra.bench.growth.scans import RunningApi
from infra.bench.measurement import PROGRESS_CONSOLE
from infra.bench.processes import start_module
from infra.operations.status import read_model_statuses

START_SECONDS = 120.0
"""Seconds within which a worker must have leased and folded all segments."""

IDLE_API = Quantity("idle API process", "ms/s", LINEAR)
IDLE_WORKER = Quantity("idle worker with all segments", "ms/s", LINEAR)
IDLE_WORKER_REDIS = Quantity("idle worker: Redis", "ms/s", LINEAR)
WORKER_MEMORY = Quantity("idle worker: resident memory", "MB", LINEAR)
WORKER_CONNECTIONS = Quantity("idle worker: connections to Redis", "connections", LINEAR)


def measure_apis(apis: Sequence[RunningApi], seconds: float, measured: Measurements) -> None:
    """Measure the processor time of API processes that get no request."""
    for api in track(apis, "watching idle API processes", transient=True, console=PROGRESS_CONSOLE):
        measured.add(IDLE_API, api.population.size, _rate(api.clock, seconds))


def measure_workers(populations: Sequence[SizedPopulation], seconds: float, measured: Measurements) -> None:
    """Run one worker after the other, and measure it after it has leased and folded all segments of all read models."""
    for population in track(populations, "watching idle workers", transient=True, console=PROGRESS_CONSOLE):
        population.release()
        before = _connections(population)
        settings = population.settings
        words = ("infra.cli", "project")
        role = {"redis_url": settings.redis_url, "partitions": settings.partitions, "log_level": "error"}
        with start_module(words, role) as process:
            _wait_until(lambda population=population: _is_folded(population), "lease and fold all segments")  # type: ignore[misc]
            _measure_worker(population, process.pid, seconds, measured)
            measured.add(WORKER_CONNECTIONS, population.size, _connections(population) - before)


def _measure_worker(population: SizedPopulation, pid: int, seconds: float, measured: Measurements) -> None:
    import psutil  # The commands that need it come with the embedded servers.

    size, server = population.size, server_clock(population.client)
    before = server()
    measured.add(IDLE_WORKER, size, _rate(process_clock(pid), seconds))
    measured.add(IDLE_WORKER_REDIS, size, (server() - before) / seconds * 1e3)
    measured.add(WORKER_MEMORY, size, psutil.Process(pid).memory_info().rss / 1e6)


def _rate(clock: Clock, seconds: float) -> float:
    """Return the milliseconds of processor time per second."""
    return spent(clock, lambda: time.sleep(seconds)) / seconds * 1e3


def _is_folded(population: SizedPopulation) -> bool:
    segments = [segment for status in read_model_statuses(population.client) for segment in status.segments]
    return all(segment.owner and not segment.lag_events for segment in segments)


def _connections(population: SizedPopulation) -> int:
    return len(population.client.client_list())


def _wait_until(condition: Callable[[], bool], work: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"A worker does not {work} within {START_SECONDS:.0f} seconds.")
        time.sleep(0.1)
