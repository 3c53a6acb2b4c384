"""A measured run of a scenario: real processes of the recorder and the workers on a real server, at a small scale."""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import median
from threading import Thread
from typing import Any, NamedTuple

import msgspec
import orjson
from redis import Redis
from redis.exceptions import RedisError

from domain.streams import market_logs
from domain.wire import INGEST_STREAM, PATTERNS
from infra.bench.detections import detections
from infra.bench.growth.measurements import server_clock
from infra.bench.population import Population
from infra.composition import open_market_logs, open_stores
from infra.processes.identity import process_name
from infra.processes.logs import configure_logs
from infra.processes.stop_signals import stop_on_signals
from infra.projecting.worker import Worker
from infra.projecting.worker_options import WorkerOptions
from infra.read_models.keys import SegmentKeys
from infra.redis.connections import connect
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.ports import Segment
from projections.versions import Build
from tests.processes.fork_server import ForkedProcess
from tests.processes.roles import environment_of, running_role, stop, wait_until
from tests.simulation.model import Visible
from tests.simulation.scenario import Arrival, Cost, Costs, Scenario, arrivals

TURNS = 15
"""Number of batches from whose median a cost is measured."""

LARGE = 500
"""Events of a large batch."""

SETTLE_SECONDS = 60.0
"""Seconds in which all events must have become visible."""

_rows = msgspec.json.Decoder(list[tuple[str, msgspec.Raw]])


def measure_costs(client: Redis, redis_url: str, *, waits: bool) -> Costs:
    """Measure the costs of batches of one event and of ``LARGE`` events, on an empty server.

    Args:
        client: A client of the server.
        redis_url: The URL of the server.
        waits: Whether the costs of the server include its waits for the disk and for a processor, as they are on this
            machine now. Otherwise, they are processor time.
    """
    population = Population(client, Settings(redis_url=redis_url, partitions=1))
    server = server_clock(client)
    messages = detections(TURNS * (LARGE + 1), 4_000, time.time())
    times: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(TURNS):
        for size in (1, LARGE):
            batch = [next(messages) for _ in range(size)]
            for role, work in (("record", partial(population.record, batch)), ("fold", population.fold)):
                before, began, used = server(), time.perf_counter(), time.process_time()
                work()
                own, passed = time.process_time() - used, time.perf_counter() - began
                times.setdefault((role, size), []).append((own, passed - own if waits else server() - before))
    return Costs(*(_cost(times, role, part) for role in ("record", "fold") for part in (0, 1)))


def _cost(times: Mapping[tuple[str, int], Sequence[tuple[float, float]]], role: str, part: int) -> Cost:
    """Return the cost of a batch in a role (part 0) or in the server (part 1)."""
    small, large = (median(each[part] for each in times[role, size]) for size in (1, LARGE))
    event = max(0.0, (large - small) / (LARGE - 1))
    return Cost(max(0.0, small - event), event)


class MeasuredRun(NamedTuple):
    """The events of a measured run, and the places of the workers that leased the segments at its start."""

    visible: list[Visible]
    owners: dict[str, int]


def fold_patterns() -> None:
    """Run a worker of the patterns alone, in a process."""
    settings = Settings()
    configure_logs(settings.log_level, "project")
    stores = open_stores(settings)
    Worker(
        stores.redis,
        process_name(),
        {ActivePatterns.name: ActivePatterns()},
        open_market_logs(stores),
        WorkerOptions(settings.lease_seconds, settings.fold_batch),
        former=(),
    ).run(stop_on_signals())


def run(scenario: Scenario, redis_url: str) -> MeasuredRun:
    """Run a scenario on an empty server. Workers that stall, and a server without a primary, are suspended.

    Args:
        scenario: The scenario.
        redis_url: The URL of the server.
    """
    settings = {"partitions": scenario.partitions, "lease_seconds": scenario.lease_seconds, "log_level": "error"}
    events = list(arrivals(scenario))
    with ExitStack() as stack:
        client: Any = stack.enter_context(connect(redis_url))
        client.flushall()
        stack.enter_context(running_role("record", redis_url=redis_url, **settings))
        workers = [stack.enter_context(_worker(redis_url, settings)) for _ in range(scenario.workers)]
        build = Build(ActivePatterns.version, 1)
        keys = {log: SegmentKeys(Segment(ActivePatterns.name, build, log)) for log in market_logs(scenario.partitions)}
        owners = wait_until(lambda: _owners(client, keys, [worker.pid for worker in workers]), "fair shares")
        base = round(time.time() * 1_000)
        observer = _Observer(redis_url, [each.changes for each in keys.values()], base, len(events))
        observer.start()
        signals = _signals(scenario, [worker.pid for worker in workers], client.info("server")["process_id"])
        started = _send(client, events, base, signals)
        observer.join(SETTLE_SECONDS)
        assert len(observer.seen) == len(events), f"{len(observer.seen)} of {len(events)} events are visible"
    visible = [Visible(events[number], moment - started) for number, moment in observer.seen.items()]
    return MeasuredRun(visible, owners)


@contextmanager
def _worker(redis_url: str, settings: Mapping[str, Any]) -> Iterator[ForkedProcess]:
    process = ForkedProcess(fold_patterns, [], environment_of(redis_url, settings), {})
    try:
        yield process
    finally:
        stop(process)


def _owners(client: Redis, keys: Mapping[str, SegmentKeys], pids: Sequence[int]) -> dict[str, int] | None:
    """Return the place of the worker of each log, or None before each worker has its share."""
    owners: dict[str, int] = {}
    for log, each in keys.items():
        owner: Any = client.hget(each.state, "owner")
        if owner is None:
            return None
        owners[log] = next(place for place, pid in enumerate(pids) if f"-{pid}-" in owner.decode())
    return owners if len(set(owners.values())) == len(pids) else None


def _signals(scenario: Scenario, workers: Sequence[int], server: int) -> list[tuple[float, int, int]]:
    """Return the signals that suspend and resume processes, by their times."""
    signals = [
        (moment, workers[stall.worker], number)
        for stall in scenario.stalls
        for moment, number in ((stall.at, signal.SIGSTOP), (stall.at + stall.seconds, signal.SIGCONT))
    ]
    signals += [
        (moment, server, number)
        for failover in scenario.failovers
        for moment, number in ((failover.at, signal.SIGSTOP), (failover.at + failover.seconds, signal.SIGCONT))
    ]
    return sorted(signals)


def _send(client: Redis, events: Sequence[Arrival], base: int, signals: Sequence[tuple[float, int, int]]) -> float:
    """Send each event at its time. Return the moment of the start, on the monotonic clock."""
    started = time.monotonic()
    suspender = Thread(target=_suspend, args=(started, signals))
    suspender.start()
    number = 0
    while number < len(events):
        time.sleep(max(0.0, started + events[number].at - time.monotonic()))
        with client.pipeline(transaction=False) as pipeline:
            while number < len(events) and started + events[number].at <= time.monotonic():
                payload = _detection(events[number].symbol, (base + number) / 1_000)
                pipeline.xadd(INGEST_STREAM, {"channel": PATTERNS, "payload": payload})
                number += 1
            pipeline.execute()
    suspender.join()
    return started


def _suspend(started: float, signals: Sequence[tuple[float, int, int]]) -> None:
    for moment, pid, number in signals:
        time.sleep(max(0.0, started + moment - time.monotonic()))
        os.kill(pid, number)


def _detection(symbol: str, detected_at: float) -> bytes:
    data = {"symbol": symbol, "pattern": "Doji", "confidence": 0.9, "timestamp": detected_at, "source": "daily"}
    return orjson.dumps(
        {"event_type": "pattern_detected", "source": "simulation", "timestamp": detected_at, "data": data}
    )


class _Observer(Thread):
    """Reads the commits as an API process does, and notes when each event became visible.

    Args:
        redis_url: The URL of the server.
        streams: The names of the streams of changes.
        base: The epoch millisecond of the first event. The following events have the following milliseconds.
        events: The number of events.
    """

    def __init__(self, redis_url: str, streams: Sequence[str], base: int, events: int) -> None:
        super().__init__(daemon=True)
        self._redis_url = redis_url
        self._positions: dict[Any, Any] = dict.fromkeys(streams, "0")
        self._base = base
        self._events = events
        self.seen: dict[int, float] = {}
        """Number of the event -> moment on the monotonic clock."""

    def run(self) -> None:
        with connect(self._redis_url) as client:
            while len(self.seen) < self._events:
                try:
                    reply: Any = client.xread(self._positions, block=200)
                except RedisError:
                    continue
                now = time.monotonic()
                for stream, entries in reply or ():
                    for entry_id, fields in entries:
                        self._positions[stream.decode()] = entry_id
                        for key, _ in _rows.decode(fields[b"rows"]):
                            self.seen.setdefault(int(key.rpartition(":")[2]) - self._base, now)
