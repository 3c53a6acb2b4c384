"""The growth of what a worker and an API process cost while no event arrives, and of a worker of all read models."""

import time
from collections.abc import Callable, Sequence

from rich.progress import track

from infra.bench.detections import detections
from infra.bench.errors import BenchmarkError
from infra.bench.growth.measurements import LINEAR, Clock, Measurements, Quantity, process_clock, server_clock, spent
from infra.bench.growth.populations import SizedPopulation
from infra.bench.growth.scans import RunningApi
from infra.bench.measurement import PROGRESS_CONSOLE
from infra.bench.processes import start_module
from infra.operations.status import read_model_statuses

START_SECONDS = 120.0
"""Seconds within which a worker must have leased and folded all segments."""

EVENTS = 4_000
"""Number of events that a worker folds into all read models."""

IDLE_API = Quantity("idle API process", "ms/s", LINEAR)
IDLE_WORKER = Quantity("idle worker with all segments", "ms/s", LINEAR)
IDLE_WORKER_REDIS = Quantity("idle worker: Redis", "ms/s", LINEAR)
FOLD_ALL = Quantity("fold into all read models: worker", "µs/event")
WRITE_ALL_REDIS = Quantity("record and fold into all read models: Redis", "µs/event")
WORKER_MEMORY = Quantity("idle worker: resident memory", "MB", LINEAR)
WORKER_CONNECTIONS = Quantity("idle worker: connections to Redis", "connections", LINEAR)


def measure_apis(apis: Sequence[RunningApi], seconds: float, measured: Measurements) -> None:
    """Measure the processor time of API processes that get no request."""
    for api in track(apis, "watching idle API processes", transient=True, console=PROGRESS_CONSOLE):
        measured.add(IDLE_API, api.population.size, _rate(api.clock, seconds))


def measure_workers(populations: Sequence[SizedPopulation], seconds: float, measured: Measurements) -> None:
    """Run one worker of all read models after the other. Measure it while it is idle, and while it folds events."""
    for population in track(populations, "watching idle workers", transient=True, console=PROGRESS_CONSOLE):
        population.release()
        before = _connections(population)
        settings = population.settings
        words = ("infra.cli", "project")
        names = {"redis_url", "partitions", "durability", "log_level"}
        role = settings.model_dump(include=names)
        with start_module(words, role) as process:
            _wait_until(lambda population=population: _is_folded(population), "lease and fold all segments")  # type: ignore[misc]
            _measure_worker(population, process.pid, seconds, measured)
            measured.add(WORKER_CONNECTIONS, population.size, _connections(population) - before)
            _measure_fold(population, process.pid, measured)


def _measure_worker(population: SizedPopulation, pid: int, seconds: float, measured: Measurements) -> None:
    import psutil  # The commands that need it come with the embedded servers.

    size, server = population.size, server_clock(population.client)
    before = server()
    measured.add(IDLE_WORKER, size, _rate(process_clock(pid), seconds))
    measured.add(IDLE_WORKER_REDIS, size, (server() - before) / seconds * 1e3)
    measured.add(WORKER_MEMORY, size, psutil.Process(pid).memory_info().rss / 1e6)


def _measure_fold(population: SizedPopulation, pid: int, measured: Measurements) -> None:
    worker, server = process_clock(pid), server_clock(population.client)
    before, server_before = worker(), server()
    population.record(list(detections(EVENTS, population.symbols, time.time(), seed=-1)))
    _wait_until(lambda: _is_folded(population), "fold new events")
    measured.add(FOLD_ALL, population.size, (worker() - before) / EVENTS * 1e6)
    measured.add(WRITE_ALL_REDIS, population.size, (server() - server_before) / EVENTS * 1e6)


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
