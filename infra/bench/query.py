"""``tickview bench query``: the same scans asked of every contender, one after the other, in one run."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice, product
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import orjson
from redis import Redis
from rich.progress import track

from infra.bench.contenders.launcher import Servers, Started, started
from infra.bench.http_load import Latencies, Load, load_process
from infra.bench.load import detections
from infra.bench.measurement import PROGRESS, batches
from infra.bench.scans import CASES, repeated, varied
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder
from infra.processes.errors import StartupError
from infra.projecting.projector import Projector
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.ports import Segment

LIMIT = "limit"

UNORDERED = "redisearch"
"""Has one sort field, and so no order among patterns of the same value."""

PARAMETERS: Mapping[str, Callable[[str, int, int], Iterator[str]]] = {"varied": varied, "repeated": repeated}

COMPARED = 5
"""Answers to each kind of scan that are compared, at most."""

COMPARING_SECONDS = 10
"""After so long there is no further one."""

LOADING_SECONDS = 120
"""How long a contender may take until it knows all patterns."""


class Measured(NamedTuple):
    """One kind of scan, asked of one contender over so many connections, its parameters varied or repeated."""

    patterns: int
    query: str
    connections: int
    parameters: str
    contender: str
    latencies: Latencies


class Memory(NamedTuple):
    """What the process that answers has in memory after it was asked everything."""

    patterns: int
    contender: str
    resident_bytes: int


class Result(NamedTuple):
    """Everything that was measured with so many patterns."""

    measured: Sequence[Measured]
    memory: Sequence[Memory]


def fill(client: Redis, settings: Settings, patterns: int, symbols: int) -> None:
    """Record so many patterns and fold them."""
    stores = Stores(settings, client, None)
    logs = open_market_logs(stores)
    recorder = open_recorder(stores, logs, open_dead_letters(stores))
    parts = batches(list(detections(patterns, symbols, time.time())), 1_000)
    for part in track(parts, description="recording patterns", transient=True, console=PROGRESS):
        recorder.record(list(part))
    versions = change_versions(client, ActivePatterns.name, lambda versions: versions.deployed(ActivePatterns.version))
    if versions.live is None:
        raise RuntimeError("no build is live")
    store = RedisStore(client)
    for log in track(logs.values(), description="folding patterns", transient=True, console=PROGRESS):
        [lease] = store.lease([Segment(ActivePatterns.name, versions.live, log.name)], "bench", 3_600)
        if lease is None:
            raise RuntimeError(f"the segment of {log.name} is leased to somebody else")
        projector = Projector(ActivePatterns(), log, store, lease)
        while projector.step(settings.fold_batch, 0)[1]:
            pass


def measure(
    servers: Servers, contenders: Sequence[str], symbols: int, connections: Sequence[int], seconds: float
) -> Result:
    """Every kind of scan over every number of connections, the contenders taking turns of ``seconds``.

    Raises StartupError for a contender that does not start or is not what it claims to be, RuntimeError for one that
    answers otherwise than the others.
    """
    measured: list[Measured] = []
    with ExitStack() as stack:
        ready = [stack.enter_context(_started(name, servers)) for name in contenders]
        load = stack.enter_context(load_process())
        for case in CASES:
            _share_answer(ready, compare_answers(ready, case.name, symbols))
            turns = list(product(connections, PARAMETERS, ready))
            alone: dict[tuple[str, str], Latencies] = {}
            what = f"{servers.patterns:,} patterns, {case.name}"
            for turn, (number, parameters, one) in enumerate(track(turns, what, transient=True, console=PROGRESS), 1):
                latencies = alone.get((parameters, one.name))
                if latencies is None:
                    paths = partial(PARAMETERS[parameters], case.name, symbols, turn)
                    try:
                        latencies = load(Load(one.port, paths, number, seconds))
                    except RuntimeError as error:
                        raise RuntimeError(f"{one.name} over {number} connections: {error}") from error
                    if latencies.connections < number:
                        # Over more connections, the same few would ask.
                        alone[parameters, one.name] = latencies
                measured.append(Measured(servers.patterns, case.name, number, parameters, one.name, latencies))
        return Result(measured, [Memory(servers.patterns, one.name, _resident_bytes(one.pid)) for one in ready])


@contextmanager
def _started(name: str, servers: Servers) -> Iterator[Started]:
    PROGRESS.print(f"starting {name} on {servers.patterns:,} patterns …", style="dim")
    with started(name, servers) as one:
        if name != LIMIT:
            wait_until_loaded(one, servers.patterns)
        yield one


def wait_until_loaded(one: Started, patterns: int) -> None:
    """Until it answers as what it claims to be, from all patterns. Raises StartupError."""
    deadline = time.monotonic() + LOADING_SECONDS
    while True:
        answer = _ask(one, "/api/patterns/scan?confidence_min=0&per_page=1")
        source, total = answer["performance"]["source"], answer["pagination"]["total"]
        if (source, total) == (one.name, patterns):
            return
        if time.monotonic() > deadline:
            raise StartupError(
                f"{one.name} is not measured: after {LOADING_SECONDS} s it answers from {source} with {total:,} of "
                f"{patterns:,} patterns"
            )
        time.sleep(0.1)


def compare_answers(ready: Sequence[Started], query: str, symbols: int) -> bytes | None:
    """Ask all for the same scans: the answer of middling size, None if nobody gives one.

    Raises RuntimeError where they differ in the total or in the patterns of the page.
    """
    asked = [one for one in ready if one.name != LIMIT]
    deadline = time.monotonic() + COMPARING_SECONDS
    bodies: list[bytes] = []
    for path in islice(varied(query, symbols, seed=0), COMPARED):
        answers = [_ask(one, path) for one in asked]
        for one, answer in zip(asked, answers, strict=True):
            expected, told = (
                (shown["pagination"]["total"], _shown(shown, ordered=one.name != UNORDERED))
                for shown in (answers[0], answer)
            )
            if told != expected:
                raise RuntimeError(f"{asked[0].name} and {one.name} answer {path} differently:\n{expected}\n{told}")
        bodies += [orjson.dumps(answer) for answer in answers[:1]]
        if time.monotonic() > deadline:
            break
    return sorted(bodies, key=len)[len(bodies) // 2] if bodies else None


def _shown(answer: Mapping[str, Any], *, ordered: bool) -> list[str] | int:
    """The patterns of the page; how many, where there is no order among those of the same value."""
    ids = [pattern["id"] for pattern in answer["patterns"]]
    return ids if ordered else len(ids)


def _share_answer(ready: Sequence[Started], body: bytes | None) -> None:
    """Let the limit send this."""
    for one in ready:
        if one.name == LIMIT and body is not None:
            with urlopen(Request(f"http://127.0.0.1:{one.port}/api/patterns/scan", body)):
                pass


def _ask(one: Started, path: str) -> Any:
    with urlopen(f"http://127.0.0.1:{one.port}{path}", timeout=LOADING_SECONDS) as answer:
        return orjson.loads(answer.read())


def _resident_bytes(pid: int) -> int:
    """Of the only process of a gunicorn."""
    import psutil

    [worker] = psutil.Process(pid).children()
    return int(worker.memory_info().rss)


def shares(measured: Sequence[Measured]) -> Iterator[float | None]:
    """What share of the limit, asked in the same way, each has reached; None where it was not asked."""
    limits = {one[:4]: one.latencies.per_second for one in measured if one.contender == LIMIT}
    for one in measured:
        limit = limits.get(one[:4])
        yield one.latencies.per_second / limit if limit else None
