"""``tickview bench replay``: a read model from position 0, beside its limit and the library's own ProjectionRunner."""

import gc
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from redis import Redis
from rich.progress import Progress as ProgressBar
from rich.progress import track

from domain.codec import encode, topic_of
from domain.wire import read
from infra.bench.http_load import Latencies, Load, load_process
from infra.bench.ingest import run_bare
from infra.bench.load import detections
from infra.bench.measurement import PROGRESS, Throughput
from infra.bench.scans import varied
from infra.composition import Stores, open_market_logs
from infra.log.event_log import EventLog, NewEvent
from infra.projecting.projector import Projector
from infra.projecting.projector_thread import ProjectorThread, SegmentOrders
from infra.read_models.commit_commands import Command
from infra.read_models.keys import SegmentKeys
from infra.read_models.pending_commit import RedisCommit
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.redis.connections import connect
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.ports import CommitOutcome, Lease, Segment
from projections.versions import Build

APPENDED_AT_ONCE = 1_000

THROTTLE = 1_000
"""Events a second of the throttled replay beside which scans are measured."""

LIVE, BACKGROUND, MEASURED = (Build(ActivePatterns.version, number) for number in (1, 2, 3))


def one_partition(redis_url: str) -> Settings:
    """The settings under which the log has one partition."""
    return Settings(redis_url=redis_url, partitions=1, durability="written", log_level="error")


def fill(client: Redis, settings: Settings, events: int, symbols: int) -> EventLog:
    """The market's log, with so many detections."""
    [log] = open_market_logs(Stores(settings, client, None)).values()
    batch: list[NewEvent] = []
    for message in track(
        detections(events, symbols, time.time()), "filling the log", events, transient=True, console=PROGRESS
    ):
        [event] = read(message.channel, message.payload, message.received_at).events
        batch.append(NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id))
        if len(batch) == APPENDED_AT_ONCE:
            log.append(batch)
            batch = []
    log.append(batch)
    return log


class _NotingStore(RedisStore):
    """The store, which also keeps the commands of the last commit."""

    noted: list[Command]

    def send(self, lease: Lease, position: int, commands: Iterable[Command]) -> RedisCommit:
        self.noted = list(commands)
        return super().send(lease, position, self.noted)


def beside_the_limit(client: Redis, log: EventLog, batch_size: int) -> list[Throughput]:
    """The rate of a replay and of its bare commands, which take turns batch by batch.

    The bare commands write to keys of their own, so that they find what the commits found. Raises RuntimeError if a
    commit is refused.
    """
    store = _NotingStore(client)
    projector = _projector(store, log, MEASURED)
    prefix = SegmentKeys(projector.lease.segment).prefix
    folding = running_bare = 0.0
    events = log.head()
    # What has been imported and filled stays: it is not for the replay to pay for looking through it.
    gc.collect()
    gc.freeze()
    with ProgressBar(transient=True) as bar:
        task = bar.add_task("replaying", total=events)
        while projector.lease.checkpoint < events:
            started = time.perf_counter()
            outcome, size = projector.step(batch_size, 0)
            folding += time.perf_counter() - started
            if outcome is not CommitOutcome.COMMITTED:
                raise RuntimeError(f"a commit was refused: {outcome.value}")
            bare = [(name, key.replace(prefix, "bare:"), words) for name, key, words in store.noted]
            started = time.perf_counter()
            run_bare(client, bare)
            running_bare += time.perf_counter() - started
            bar.advance(task, size)
    limit = Throughput("bare commands of the commits, redis-py pipeline", events / running_bare)
    replay = Throughput("replay (read, decode, fold, commit)", events / folding)
    return [limit, replay._replace(share=replay.per_second / limit.per_second)]


def _projector(store: RedisStore, log: EventLog, build: Build) -> Projector:
    [lease] = store.lease([Segment(ActivePatterns.name, build, log.name)], "bench", 36_000)
    if lease is None:
        raise RuntimeError(f"build {build} is leased to somebody else")
    return Projector(ActivePatterns(), log, store, lease)


def make_live(client: Redis, log: EventLog, patterns: int) -> None:
    """A live build with about so many patterns."""
    change_versions(client, ActivePatterns.name, lambda versions: versions.deployed(ActivePatterns.version))
    projector = _projector(RedisStore(client), log, LIVE)
    while projector.lease.checkpoint < patterns and projector.step(min(1_000, patterns), 0)[1]:
        pass


def scan_latencies(redis_url: str, port: int, symbols: int, connections: int, seconds: float) -> dict[str, Latencies]:
    """Scans of the live build, without a replay beside them, with one, and with one that is throttled."""
    scans = Load(port, partial(varied, "ABCD", symbols, seed=1), connections, seconds)
    with load_process() as load:
        measured = {"no replay": load(scans)}
        for name, throttle in (("during a replay", 0), (f"during a replay of {THROTTLE:,} events/s", THROTTLE)):
            with _replaying(redis_url, throttle):
                measured[name] = load(scans)
    return measured


@contextmanager
def _replaying(redis_url: str, throttle: int) -> Iterator[None]:
    """A process that replays, begun anew."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_replay_until, args=(redis_url, stop, throttle))
    with connect(redis_url) as client:
        _forget(client, BACKGROUND)
    process.start()
    try:
        with connect(redis_url) as client:
            state = SegmentKeys(Segment(ActivePatterns.name, BACKGROUND, "market-0")).state
            while not client.hexists(state, "checkpoint"):
                if not process.is_alive():
                    raise RuntimeError("the replay in the background ended early")
                time.sleep(0.01)
        yield
    finally:
        stop.set()
        process.join()


def _replay_until(redis_url: str, stop: "multiprocessing.synchronize.Event", throttle: int) -> None:
    """Replay from position 0, and from there again at the end of the log, until ``stop`` is set."""
    with connect(redis_url) as client:
        settings = one_partition(redis_url)
        [log] = open_market_logs(Stores(settings, client, None)).values()
        store = RedisStore(client)
        projector = _projector(store, log, BACKGROUND)
        if throttle:
            thread = ProjectorThread(client, log, projector, settings.fold_batch, SegmentOrders(throttle=throttle))
            thread.start()
            stop.wait()
            thread.request_stop()
            thread.join()
        while not stop.is_set():
            if not projector.step(settings.fold_batch, 0)[1]:
                _forget(client, BACKGROUND)
                projector = _projector(store, log, BACKGROUND)


def _forget(client: Redis, build: Build) -> None:
    prefix = SegmentKeys(Segment(ActivePatterns.name, build, "market-0")).prefix
    keys = list(client.scan_iter(prefix + "*", count=10_000))
    if keys:
        client.unlink(*keys)
