"""Measurements: rates of batches, quantiles of durations, and the console for progress bars."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from redis import Redis
from rich.progress import track

from infra.processes.terminal import TerminalConsole

Item = TypeVar("Item")

PROGRESS_CONSOLE = TerminalConsole(stderr=True)
"""Console for progress: standard error, so that standard output contains only results."""


class Throughput(NamedTuple):
    """The measured rate of one operation."""

    name: str
    per_second: float
    """Items per second."""
    share: float | None = None
    """The rate as a fraction of the limit in the same run; None for the limit itself."""
    process_cpu: float | None = None
    """Processor time of this process in microseconds per item; None if it was not measured."""
    server_cpu: float | None = None
    """Processor time of the Redis server's main thread in microseconds per item; None if it was not measured."""


class Meter:
    """Adds up the time of an operation and the processor time that this process and the Redis server spend on it.

    The rates depend on the other work of the machine, the processor times hardly do.

    Args:
        client: A client of the server.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._seconds = self._process = self._server = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure what is done in the context."""
        server, process, started = self._server_seconds(), time.process_time(), time.perf_counter()
        yield
        self._seconds += time.perf_counter() - started
        self._process += time.process_time() - process
        self._server += self._server_seconds() - server

    def throughput(self, name: str, items: int) -> Throughput:
        """Return the rate and the processor times for a number of items."""
        cpu = [round(seconds / items * 1e6, 1) for seconds in (self._process, self._server)]
        return Throughput(name, items / self._seconds, None, *cpu)

    def _server_seconds(self) -> float:
        cpu: Any = self._client.info("cpu")
        return float(cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])


def batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Split items into batches of ``size``. The last batch may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def measure_rate(name: str, parts: Iterable[Sequence[Item]], work: Callable[[Sequence[Item]], object]) -> Throughput:
    """Measure the items per second while ``work`` processes one batch after the other."""
    done = 0
    started = time.perf_counter()
    for part in track(list(parts), description=name, transient=True, console=PROGRESS_CONSOLE):
        work(part)
        done += len(part)
    return Throughput(name, done / (time.perf_counter() - started))


def measure_in_turns(items: int, works: Mapping[str, Sequence[Callable[[], object]]]) -> list[Throughput]:
    """Measure the items per second of several works, in turns, so that other load of the machine affects all alike.

    Args:
        items: The number of items that each work processes.
        works: Name -> the batches of the work. All works have the same number of batches.
    """
    seconds = dict.fromkeys(works, 0.0)
    turns = list(zip(*works.values(), strict=True))
    for turn in track(turns, description=", ".join(works), transient=True, console=PROGRESS_CONSOLE):
        for name, work in zip(works, turn, strict=True):
            started = time.perf_counter()
            work()
            seconds[name] += time.perf_counter() - started
    return [Throughput(name, items / seconds[name]) for name in works]


def with_shares(limit: Throughput, *measured: Throughput) -> list[Throughput]:
    """Return the limit, followed by the other rates with their shares of the limit."""
    return [limit, *(rate._replace(share=rate.per_second / limit.per_second) for rate in measured)]


def quantile(sorted_values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of the sorted values lie."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]
