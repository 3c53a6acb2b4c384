"""Populations of different sizes in one server, each in a database of its own, so that they are measured in turns."""

import gc
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, NamedTuple

from redis import Redis
from rich.progress import Progress, track

from domain.announcements import Message
from infra.bench.detections import detections, expiry
from infra.bench.growth.measurements import LINEAR, Measurements, Quantity, server_clock, spent
from infra.bench.measurement import PROGRESS_CONSOLE
from infra.bench.population import RECORD_BATCH, Population
from infra.redis.connections import connect
from infra.settings import Settings

MAX_SYMBOLS = 4_000
"""Highest number of symbols of a population."""

PATTERNS_PER_SYMBOL = 10
"""Lowest mean number of patterns of a symbol."""

ROUND_MESSAGES = 1_000
"""Highest number of messages of a round: half of them are new detections, half of them end old ones."""

REPLAY = Quantity("replay from position 0: worker", "s", LINEAR)
REPLAY_REDIS = Quantity("replay from position 0: Redis", "s", LINEAR)
LOG_BYTES = Quantity("log in Redis", "bytes/event")
ID_BYTES = Quantity("ids of events in Redis", "bytes/event")
ROW_BYTES = Quantity("read model in Redis", "bytes/pattern")
RECORD = Quantity("record: recorder", "µs/event")
RECORD_REDIS = Quantity("record: Redis", "µs/event")
FOLD = Quantity("fold: worker", "µs/event")
FOLD_REDIS = Quantity("fold: Redis", "µs/event")


class Plan(NamedTuple):
    """The plan of a population."""

    size: int
    patterns: int
    partitions: int


class SizedPopulation(Population):
    """A population of ``patterns`` patterns, and the detections that a round ends next.

    ``size`` is the size at which costs are measured: the number of patterns, or of partitions.
    """

    def __init__(self, client: Redis, settings: Settings, size: int, patterns: int) -> None:
        super().__init__(client, settings)
        self.size = size
        self.patterns = patterns
        self.symbols = max(1, min(MAX_SYMBOLS, patterns // PATTERNS_PER_SYMBOL))
        self.oldest: deque[Message] = deque()


@contextmanager
def open_populations(redis_url: str, plans: Iterable[Plan]) -> Iterator[list[SizedPopulation]]:
    """Open an empty population for each plan until the context ends.

    The server does not wait for its disk: the measured processor time has no part in this wait.

    Args:
        redis_url: The URL of an empty server, without a database.
        plans: The plans, at most as many as the server has databases (16).
    """
    with ExitStack() as stack:
        opened = []
        for database, plan in enumerate(plans):
            url = f"{redis_url}/{database}"
            settings = Settings(redis_url=url, partitions=plan.partitions, durability="written", log_level="error")
            client: Any = stack.enter_context(connect(url))
            client.config_set("appendfsync", "no")
            opened.append(SizedPopulation(client, settings, plan.size, plan.patterns))
        yield opened


def fill(population: SizedPopulation, rounds: int, measured: Measurements) -> None:
    """Record and fold the patterns of an empty population, and measure the replay and the memory.

    Args:
        population: The population.
        rounds: Number of rounds that will be measured.
        measured: Receives the measured costs.
    """
    redis, size, patterns = server_clock(population.client), population.size, population.patterns
    reserve = rounds * ROUND_MESSAGES // 2
    memory = [_used_memory(population.client)]
    messages = detections(patterns, population.symbols, time.time())
    with Progress(console=PROGRESS_CONSOLE, transient=True) as bar:
        task = bar.add_task(f"recording {patterns:,} patterns", total=patterns)
        while part := list(islice(messages, RECORD_BATCH)):
            population.record(part)
            population.oldest.extend(part[: max(0, reserve - len(population.oldest))])
            bar.advance(task, len(part))
        memory.append(_used_memory(population.client))
        ids = _memory_of_ids(population)
        bar.update(bar.add_task(f"folding {patterns:,} patterns", total=None))
        server = redis()
        measured.add(REPLAY, size, spent(time.process_time, population.fold))
        measured.add(REPLAY_REDIS, size, redis() - server)
    memory.append(_used_memory(population.client))
    measured.add(LOG_BYTES, size, (memory[1] - memory[0] - ids) / patterns)
    measured.add(ID_BYTES, size, ids / patterns)
    measured.add(ROW_BYTES, size, (memory[2] - memory[1]) / patterns)


def measure_rounds(populations: Sequence[SizedPopulation], rounds: int, measured: Measurements) -> None:
    """Measure recording and folding per event while the sizes stay the same: old patterns end as new ones begin.

    The populations alternate after each round, so that other work of the machine affects all of them.
    """
    # The garbage collector must not spend the time of a round on objects that were created before.
    gc.collect()
    gc.freeze()
    for seed in track(range(rounds), "recording and folding in turns", transient=True, console=PROGRESS_CONSOLE):
        for population in populations:
            number = min(ROUND_MESSAGES // 2, population.patterns)
            fresh = detections(number, population.symbols, time.time(), seed=seed + 2)
            _measure_round(population, list(fresh), measured)


def _measure_round(population: SizedPopulation, detected: Sequence[Message], measured: Measurements) -> None:
    ended = [expiry(population.oldest.popleft()) for _ in detected]
    population.oldest.extend(detected)
    messages = [*detected, *ended]
    redis = server_clock(population.client)
    for own, server, work in (
        (RECORD, RECORD_REDIS, lambda: population.record(messages)),
        (FOLD, FOLD_REDIS, population.fold),
    ):
        before = redis()
        measured.add(own, population.size, spent(time.process_time, work) / len(messages) * 1e6)
        measured.add(server, population.size, (redis() - before) / len(messages) * 1e6)


def _used_memory(client: Redis) -> int:
    memory: Any = client.info("memory")
    return int(memory["used_memory_dataset"])


def _memory_of_ids(population: SizedPopulation) -> int:
    """Return the bytes of the ids by which the logs of a population drop repeated events."""
    total = 0
    for log in population.logs.values():
        for key in population.client.scan_iter(log.keys.ids_prefix + "*", count=1_000):
            used: Any = population.client.memory_usage(key, samples=0)
            total += int(used)
    return total
