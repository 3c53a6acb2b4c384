"""``tickview bench query``: the rate, latency and memory of every contender for the same scans, in one run."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice, product
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import orjson
from rich.progress import track

from infra.bench.contenders.launcher import BenchmarkServers, RunningContender, start_contender
from infra.bench.errors import BenchmarkError
from infra.bench.http_load import Latencies, Load, load_process
from infra.bench.measurement import PROGRESS_CONSOLE
from infra.bench.scans import SCAN_KINDS, repeated_paths, varied_paths

LIMIT = "limit"
"""Name of the contender that sends a constant body."""

UNORDERED_CONTENDER = "redisearch"
"""Name of the contender that does not order patterns with equal sort values."""

PARAMETERS: Mapping[str, Callable[[str, int, int], Iterator[str]]] = {
    "varied": varied_paths,
    "repeated": repeated_paths,
}

MAX_COMPARED_ANSWERS = 5
"""Highest number of compared answers per kind of scan."""

MAX_COMPARISON_SECONDS = 10
"""Seconds after which no further answer is compared."""

LOADING_SECONDS = 120
"""Seconds in which a contender must have loaded all patterns."""


class ScanMeasurement(NamedTuple):
    """The rate and latencies of one contender for one kind of scan. ``parameters`` is ``varied`` or ``repeated``."""

    patterns: int
    query: str
    connections: int
    parameters: str
    contender: str
    latencies: Latencies


class MemoryMeasurement(NamedTuple):
    """The resident memory of a contender after all scans, in bytes."""

    patterns: int
    contender: str
    resident_bytes: int


class QueryMeasurements(NamedTuple):
    """All measurements with one number of patterns."""

    measured: Sequence[ScanMeasurement]
    memory: Sequence[MemoryMeasurement]


def measure(
    servers: BenchmarkServers, contenders: Sequence[str], symbols: int, connections: Sequence[int], seconds: float
) -> QueryMeasurements:
    """Measure every kind of scan with every number of connections. The contenders alternate.

    Args:
        servers: The servers with the patterns.
        contenders: Names of the contenders.
        symbols: Number of symbols of the patterns.
        connections: Numbers of connections.
        seconds: Duration of each measurement, in seconds.

    Raises:
        BenchmarkError: A contender does not start, or its answers differ from the answers of the others.
    """
    measured: list[ScanMeasurement] = []
    with ExitStack() as stack:
        ready = [stack.enter_context(_start_and_load(name, servers)) for name in contenders]
        load = stack.enter_context(load_process())
        for kind in SCAN_KINDS:
            _share_answer(ready, compare_answers(ready, kind.name, symbols))
            turns = list(product(connections, PARAMETERS, ready))
            description = f"{servers.patterns:,} patterns, {kind.name}"
            saturated: dict[tuple[str, str], Latencies] = {}
            for turn, (number, parameters, contender) in enumerate(
                track(turns, description, transient=True, console=PROGRESS_CONSOLE), 1
            ):
                latencies = saturated.get((parameters, contender.name))
                if latencies is None:
                    paths = partial(PARAMETERS[parameters], kind.name, symbols, turn)
                    try:
                        latencies = load(Load(contender.port, paths, number, seconds))
                    except BenchmarkError as error:
                        raise BenchmarkError(f"{contender.name} over {number} connections: {error}") from error
                    if latencies.connections < number:
                        # A measurement with more connections would also use only this number.
                        saturated[parameters, contender.name] = latencies
                measured.append(
                    ScanMeasurement(servers.patterns, kind.name, number, parameters, contender.name, latencies)
                )
        memory = [
            MemoryMeasurement(servers.patterns, contender.name, resident_bytes(contender.pid)) for contender in ready
        ]
        return QueryMeasurements(measured, memory)


@contextmanager
def _start_and_load(name: str, servers: BenchmarkServers) -> Iterator[RunningContender]:
    PROGRESS_CONSOLE.print(f"starting {name} on {servers.patterns:,} patterns …", style="dim")
    with start_contender(name, servers) as contender:
        if name != LIMIT:
            wait_until_loaded(contender, servers.patterns)
        yield contender


def wait_until_loaded(contender: RunningContender, patterns: int) -> None:
    """Wait until a contender answers from its own store and knows all patterns.

    Raises:
        BenchmarkError: The contender does not know all patterns after ``LOADING_SECONDS``.
    """
    deadline = time.monotonic() + LOADING_SECONDS
    while True:
        answer = _get(contender, "/api/patterns/scan?confidence_min=0&per_page=1")
        source, total = answer["performance"]["source"], answer["pagination"]["total"]
        if (source, total) == (contender.name, patterns):
            return
        if time.monotonic() > deadline:
            raise BenchmarkError(
                f"{contender.name} cannot be measured. After {LOADING_SECONDS} seconds it answers from {source} with "
                f"{total:,} of {patterns:,} patterns."
            )
        time.sleep(0.1)


def compare_answers(ready: Sequence[RunningContender], query: str, symbols: int) -> bytes | None:
    """Compare the answers of all contenders except the limit to the same scans.

    Args:
        ready: The running contenders.
        query: Name of the kind of scan.
        symbols: Number of symbols of the patterns.

    Returns:
        The answer of median size; None if there is no contender except the limit.

    Raises:
        BenchmarkError: Two answers differ in the total or in the patterns of the page.
    """
    compared = [contender for contender in ready if contender.name != LIMIT]
    deadline = time.monotonic() + MAX_COMPARISON_SECONDS
    bodies: list[bytes] = []
    for path in islice(varied_paths(query, symbols, seed=0), MAX_COMPARED_ANSWERS):
        answers = [_get(contender, path) for contender in compared]
        for contender, answer in zip(compared, answers, strict=True):
            ordered = contender.name != UNORDERED_CONTENDER
            expected, actual = _comparable(answers[0], ordered=ordered), _comparable(answer, ordered=ordered)
            if actual != expected:
                names = f"{compared[0].name} and {contender.name}"
                raise BenchmarkError(f"{names} answer {path} differently:\n{expected}\n{actual}")
        bodies += [orjson.dumps(answer) for answer in answers[:1]]
        if time.monotonic() > deadline:
            break
    return sorted(bodies, key=len)[len(bodies) // 2] if bodies else None


def _comparable(answer: Mapping[str, Any], *, ordered: bool) -> tuple[int, list[str] | int]:
    """Return the total and the ids of the page, or the total and the number of ids if the order is undefined."""
    ids = [pattern["id"] for pattern in answer["patterns"]]
    return answer["pagination"]["total"], ids if ordered else len(ids)


def _share_answer(ready: Sequence[RunningContender], body: bytes | None) -> None:
    """Make the limit send this body."""
    for contender in ready:
        if contender.name == LIMIT and body is not None:
            with urlopen(Request(f"http://127.0.0.1:{contender.port}/api/patterns/scan", body)):
                pass


def _get(contender: RunningContender, path: str) -> Any:
    with urlopen(f"http://127.0.0.1:{contender.port}{path}", timeout=LOADING_SECONDS) as answer:
        return orjson.loads(answer.read())


def resident_bytes(pid: int) -> int:
    """Return the resident memory of the only worker of a gunicorn process, in bytes."""
    import psutil

    [worker] = psutil.Process(pid).children()
    return int(worker.memory_info().rss)


def limit_shares(measured: Sequence[ScanMeasurement]) -> Iterator[float | None]:
    """Yield the rate of each measurement as a share of the limit; None if the limit was not measured."""
    limits = {scan[:4]: scan.latencies.per_second for scan in measured if scan.contender == LIMIT}
    for scan in measured:
        limit = limits.get(scan[:4])
        yield scan.latencies.per_second / limit if limit else None
