"""``tickview bench query``: scans over HTTP, beside the bare commands that answer them."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle
from typing import Any, NamedTuple

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.client import Pipeline
from rich.progress import track

from infra.bench.http_load import Latencies, drive
from infra.bench.load import PATTERN_TYPES, detections, symbol
from infra.bench.measuring import PROGRESS, batches, quantile
from infra.composition import open_market_logs, open_recorder
from infra.projector import Projector
from infra.read_models.queries_patterns import RedisPatternQueries
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.ports import Segment
from projections.queries import PatternQuery
from projections.versions import Build

VARIATIONS = 200
"""Different parameters of each query, so that no cache can help."""


class Case(NamedTuple):
    """One kind of scan, with random parameters."""

    name: str
    what: str
    vary: Callable[[random.Random, int], tuple[PatternQuery, str]]


class Measured(NamedTuple):
    """One kind of scan: over HTTP, and its bare commands on one connection."""

    case: Case
    http: Latencies
    bare: Latencies


def _by_confidence(chance: random.Random, symbols: int) -> tuple[PatternQuery, str]:
    del symbols
    lowest = round(chance.uniform(0.4, 0.6), 4)
    return PatternQuery(now=0, confidence_min=lowest), f"confidence_min={lowest}"


def _two_types(chance: random.Random, symbols: int) -> tuple[PatternQuery, str]:
    del symbols
    types = chance.sample(PATTERN_TYPES, 2)
    lowest, strength = round(chance.uniform(0.65, 0.75), 4), round(chance.uniform(1.1, 1.3), 3)
    query = PatternQuery(now=0, pattern_types=frozenset(types), confidence_min=lowest, rs_min=strength)
    return query, f"pattern_types={','.join(types)}&confidence_min={lowest}&rs_min={strength}"


def _three_symbols(chance: random.Random, symbols: int) -> tuple[PatternQuery, str]:
    chosen = [symbol(chance.randrange(symbols)) for _ in range(3)]
    query = PatternQuery(now=0, symbols=frozenset(chosen), confidence_min=0.5)
    return query, f"symbols={','.join(chosen)}"


def _third_page_by_strength(chance: random.Random, symbols: int) -> tuple[PatternQuery, str]:
    del symbols
    low, volume = round(chance.uniform(28, 32), 2), round(chance.uniform(1.4, 1.6), 3)
    query = PatternQuery(now=0, confidence_min=0.5, rsi_range=(low, 70), vol_min=volume, sort_by="rs", offset=60)
    return query, f"rsi_range={low},70&vol_min={volume}&sort_by=rs&page=3"


CASES = (
    Case("A", "confidence ≥ 0.5, by confidence", _by_confidence),
    Case("B", "2 types, confidence ≥ 0.7, rs ≥ 1.2", _two_types),
    Case("C", "3 symbols", _three_symbols),
    Case("D", "rsi 30–70, volume ≥ 1.5, by rs, page 3", _third_page_by_strength),
)


def fill(client: Redis, settings: Settings, patterns: int, symbols: int) -> None:
    """Record so many patterns and fold them."""
    recorder = open_recorder(client, settings)
    parts = batches(list(detections(patterns, symbols, time.time())), 1_000)
    for part in track(parts, description="recording patterns", transient=True, console=PROGRESS):
        recorder.record(list(part))
    versions = change_versions(client, ActivePatterns.name, lambda versions: versions.deployed(ActivePatterns.version))
    if versions.live is None:
        raise RuntimeError("no build is live")
    store = RedisStore(client)
    logs = open_market_logs(client, settings).values()
    for log in track(logs, description="folding patterns", transient=True, console=PROGRESS):
        [lease] = store.lease([Segment(ActivePatterns.name, versions.live, log.name)], "bench", 3_600)
        if lease is None:
            raise RuntimeError(f"the segment of {log.name} is leased to somebody else")
        projector = Projector(ActivePatterns(), log, store, lease, settings.fold_batch)
        while projector.step(0)[1]:
            pass


async def measure(
    redis_url: str, port: int, logs: tuple[str, ...], symbols: int, connections: int, seconds: float
) -> list[Measured]:
    """Every case: first over HTTP, then its bare commands, each for ``seconds``."""
    measured = []
    for case in CASES:
        chance = random.Random(case.name)  # noqa: S311 a load, not a secret
        varied = [case.vary(chance, symbols) for _ in range(VARIATIONS)]
        paths = cycle([f"/api/patterns/scan?{parameters}" for _, parameters in varied])
        http = await drive("127.0.0.1", port, paths, connections, seconds)
        noted = await _noted_commands(redis_url, logs, [query for query, _ in varied])
        bare = await asyncio.to_thread(_drive_bare, redis_url, cycle(noted), seconds)
        measured.append(Measured(case, http, bare))
    return measured


Trips = list[list[tuple[Any, ...]]]
"""The commands of one query, by round trip."""


class _NotingPipeline(Pipeline):
    """A pipeline that notes what it sends."""

    noted: Trips

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        self.noted.append([words for words, _ in self.command_stack])
        return await super().execute(raise_on_error)


class _NotingRedis(AsyncRedis):
    """A client whose pipelines note what they send."""

    noted: Trips

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        pipeline = _NotingPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.noted = self.noted
        return pipeline


async def _noted_commands(redis_url: str, logs: tuple[str, ...], queries: list[PatternQuery]) -> list[Trips]:
    noted = []
    async with AsyncRedis.from_url(redis_url) as connected:
        client = _NotingRedis(connection_pool=connected.connection_pool)
        asking = RedisPatternQueries(client, Build(ActivePatterns.version, 1), logs)
        for query in queries:
            client.noted = []
            await asking.scan(replace(query, now=time.time()))
            noted.append(client.noted)
    return noted


def _drive_bare(redis_url: str, queries: Iterator[Trips], seconds: float) -> Latencies:
    """The commands alone, on one connection, one query after the other."""
    times: list[float] = []
    started = time.perf_counter()
    with Redis.from_url(redis_url) as client:
        while (asked := time.perf_counter()) < started + seconds:
            for trip in next(queries):
                with client.pipeline(transaction=False) as pipeline:
                    for words in trip:
                        pipeline.execute_command(*words)
                    pipeline.execute()
            times.append(time.perf_counter() - asked)
    elapsed = time.perf_counter() - started
    times.sort()
    return Latencies(len(times) / elapsed, quantile(times, 0.5) * 1000, quantile(times, 0.99) * 1000)
