"""``tickview bench replay``: the rate of a replay and its limit, and the latency of scans during a replay."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from redis import Redis
from rich.progress import Progress as ProgressBar
from rich.progress import track

from domain.codec import encode, topic_of
from domain.wire import read
from infra.bench.detections import detections
from infra.bench.errors import BenchmarkError
from infra.bench.http_load import Latencies, Load, load_process
from infra.bench.measurement import PROGRESS_CONSOLE, Meter, Throughput, with_shares
from infra.bench.packed_pipeline import PackedPipeline
from infra.bench.recording_store import RecordingStore, bare_commands
from infra.bench.scans import varied_paths
from infra.composition import Stores, open_market_logs
from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from infra.processes.memory import collect_garbage_by_batch
from infra.projecting.projector import Projector
from infra.projecting.projector_thread import ProjectorThread, SegmentOrders
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.redis.connections import connect
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.ports import CommitOutcome, Segment
from projections.versions import Build

APPEND_BATCH = 1_000
"""Number of events per append."""

THROTTLED_RATE = 1_000
"""Rate of the throttled replay, in events per second."""

LIVE, BACKGROUND, MEASURED = (Build(ActivePatterns.version, number) for number in (1, 2, 3))
"""The live build, the build of the replay during scans, and the build of the measured replay."""


def single_partition_settings(redis_url: str) -> Settings:
    """Return settings with one partition."""
    return Settings(redis_url=redis_url, partitions=1, durability="written", log_level="error")


def fill(client: Redis, settings: Settings, events: int, symbols: int) -> EventLog:
    """Append detections to the market log and return the log."""
    [log] = open_market_logs(Stores(settings, client, None)).values()
    batch: list[NewEvent] = []
    for message in track(
        detections(events, symbols, time.time()), "filling the log", events, transient=True, console=PROGRESS_CONSOLE
    ):
        [event] = read(message.channel, message.payload, message.received_at).events
        batch.append(NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id))
        if len(batch) == APPEND_BATCH:
            log.append(batch)
            batch = []
    log.append(batch)
    return log


def measure_replay(client: Redis, log: EventLog, batch_size: int) -> list[Throughput]:
    """Measure the rate of a replay, and as its limit the rate at which the server runs its commands without TickView.

    Replay and limit alternate after each batch, so that both run under the same conditions. The commands of the limit
    write to separate keys. They are packed before the measurement.

    Returns:
        The limit and the replay, in events per second.

    Raises:
        BenchmarkError: A commit was refused.
    """
    store = RecordingStore(client, max_commits=1)
    projector = _create_projector(store, log, MEASURED)
    prefix = SegmentKeys(projector.lease.segment).prefix
    replay, limit = Meter(client), Meter(client)
    events = log.head()
    collect_garbage_by_batch()
    with ProgressBar(transient=True) as bar, PackedPipeline(client) as pipeline:
        task = bar.add_task("replaying", total=events)
        while projector.lease.checkpoint < events:
            with replay.running():
                outcome, size, _ = projector.step(batch_size, 0)
            if outcome is not CommitOutcome.COMMITTED:
                raise BenchmarkError(f"A commit was refused: {outcome.value}.")
            bare = [(name, key.replace(prefix, "bare:"), words) for name, key, words in store.commits[-1]]
            packed = pipeline.pack(bare_commands(bare))
            with limit.running():
                pipeline.run(packed)
            bar.advance(task, size)
    return with_shares(
        limit.throughput("bare commands of the commits, packed before", events),
        replay.throughput("replay (read, decode, fold, commit)", events),
    )


def _create_projector(store: RedisStore, log: EventLog, build: Build) -> Projector:
    [lease] = store.lease([Segment(ActivePatterns.name, build, log.name)], "bench", 36_000)
    if lease is None:
        raise BenchmarkError(f"Another worker holds the lease of build {build}.")
    return Projector(ActivePatterns(), log, store, lease)


def create_live_build(client: Redis, log: EventLog, patterns: int) -> None:
    """Create a live build of the first events of the log, about ``patterns`` of them."""
    change_versions(client, ActivePatterns.name, lambda versions: versions.deployed(ActivePatterns.version))
    projector = _create_projector(RedisStore(client), log, LIVE)
    while projector.lease.checkpoint < patterns and projector.step(min(1_000, patterns), 0)[1]:
        pass


def scan_latencies(redis_url: str, port: int, symbols: int, connections: int, seconds: float) -> dict[str, Latencies]:
    """Measure scans of the live build without a replay, during a replay, and during a throttled replay.

    Returns:
        Description -> rate and latencies of the scans.
    """
    scans = Load(port, partial(varied_paths, "ABCD", symbols, seed=1), connections, seconds)
    with load_process() as load:
        measured = {"no replay": load(scans)}
        throttled = f"during a replay of {THROTTLED_RATE:,} events/s"
        for name, throttle in (("during a replay", 0), (throttled, THROTTLED_RATE)):
            with _background_replay(redis_url, throttle):
                measured[name] = load(scans)
    return measured


@contextmanager
def _background_replay(redis_url: str, throttle: int) -> Iterator[None]:
    """Run a process that replays from position 0 until the context ends."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=_replay_repeatedly, args=(redis_url, stop, throttle))
    with connect(redis_url) as client:
        _delete_build(client, BACKGROUND)
    process.start()
    try:
        with connect(redis_url) as client:
            state = SegmentKeys(Segment(ActivePatterns.name, BACKGROUND, "market-0")).state
            while not client.hexists(state, "checkpoint"):
                if not process.is_alive():
                    raise BenchmarkError("The process of the background replay ended early.")
                time.sleep(0.01)
        yield
    finally:
        stop.set()
        process.join()


def _replay_repeatedly(redis_url: str, stop: "multiprocessing.synchronize.Event", throttle: int) -> None:
    """Replay from position 0 until ``stop`` is set. At the end of the log, start again."""
    with connect(redis_url) as client:
        settings = single_partition_settings(redis_url)
        [log] = open_market_logs(Stores(settings, client, None)).values()
        store = RedisStore(client)
        projector = _create_projector(store, log, BACKGROUND)
        if throttle:
            thread = ProjectorThread(client, log, projector, settings.fold_batch, SegmentOrders(throttle=throttle))
            thread.start()
            stop.wait()
            thread.request_stop()
            thread.join()
        while not stop.is_set():
            if not projector.step(settings.fold_batch, 0)[1]:
                _delete_build(client, BACKGROUND)
                projector = _create_projector(store, log, BACKGROUND)


def _delete_build(client: Redis, build: Build) -> None:
    prefix = SegmentKeys(Segment(ActivePatterns.name, build, "market-0")).prefix
    keys = list(client.scan_iter(prefix + "*", count=10_000))
    if keys:
        client.unlink(*keys)
