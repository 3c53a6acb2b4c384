"""``tickview bench ingest``: events per second into the log and into a read model.

The limit is the rate at which the server executes the same Redis commands without TickView.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from redis import Redis

from domain.announcements import Message, Receipt
from domain.codec import encode, topic_of
from domain.wire import read
from infra.bench.detections import detections
from infra.bench.measurement import Meter, Throughput, batches, measure_in_turns, measure_rate, with_shares
from infra.bench.packed_pipeline import PackedPipeline
from infra.bench.recording_store import RecordingStore, bare_commands
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder
from infra.log.append import NewEvent
from infra.log.durability import wait_command
from infra.log.event_log import EventLog
from infra.log.handle import LogOptions
from infra.processes.memory import collect_garbage_by_batch
from infra.projecting.projector import Projector
from infra.read_models.keys import SegmentKeys
from infra.recording.pending import Pending
from infra.recording.recorder import Recorder
from infra.redis.functions import Argument
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.ports import Segment
from projections.versions import Build

TURN_BATCHES = 10
"""Number of batches per turn, so that the recorder can read a batch while the log appends the batch before."""

Part = TypeVar("Part")


def measure(client: Redis, events: int, symbols: int) -> dict[str, list[Throughput]]:
    """Delete all data of the server and measure the rates into the log and into the read model.

    Returns:
        Name of the target -> rates in events per second. The first rate of each list is the limit.
    """
    client.flushall()
    settings = Settings(partitions=1)
    messages = list(detections(events, symbols, time.time()))
    parts = batches(messages, settings.batch_size)
    collect_garbage_by_batch()
    return {"log": _measure_log(client, settings, parts), "read model": _measure_read_model(client, settings)}


def _measure_log(client: Redis, settings: Settings, parts: Sequence[Sequence[Message]]) -> list[Throughput]:
    stores = Stores(settings, client, None)
    recorder = open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))
    read_parts = [[_new_event(message) for message in part] for part in parts]
    wait = wait_command(client, settings.durability, settings.replicas)
    with PackedPipeline(client) as pipeline:
        packed = [pipeline.pack([["MULTI"], *_bare_append(part), ["EXEC"], wait]) for part in read_parts]
        log = EventLog(client, "bench", LogOptions(settings.durability))
        rates = measure_in_turns(
            sum(map(len, parts)),
            {
                "bare commands, packed before": _turns(packed, partial(_call_each, pipeline.run)),
                "append": _turns(read_parts, partial(_call_each, log.append)),
                "record (read the message and append)": _turns(parts, partial(_record, recorder)),
            },
        )
    return with_shares(*rates)


def _turns(parts: Sequence[Part], work: Callable[[Sequence[Part]], None]) -> list[Callable[[], None]]:
    return [partial(work, turn) for turn in batches(parts, TURN_BATCHES)]


def _call_each(work: Callable[[Part], object], parts: Sequence[Part]) -> None:
    for part in parts:
        work(part)


def _record(recorder: Recorder, parts: Sequence[Sequence[Message]]) -> None:
    """Record as the reader of the ingest stream does: it reads a batch while the log appends the batch before."""
    pending: Pending[list[Receipt]] | None = None
    for part in parts:
        read_messages = recorder.read(part)
        if pending:
            pending.result()
        pending = recorder.begin(read_messages)
    if pending:
        pending.result()


def _new_event(message: Message) -> NewEvent:
    [event] = read(message.channel, message.payload, message.received_at).events
    return NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id)


def _bare_append(events: Sequence[NewEvent]) -> Iterator[Sequence[Argument]]:
    """Yield the write commands of an append, without its checks.

    They must run in a transaction, as an append does. Else the server writes a batch to the disk in many parts.
    """
    streams = {event.stream for event in events}
    for event in events:
        entry: list[Argument] = ["stream", event.stream, "version", 1, "topic", event.topic]
        entry += ["event_id", event.event_id, "recorded_at", 1_757_001_600_000, "state", event.state, "origin", ""]
        yield ["XADD", "bare:log", "*", *entry]
    for stream in streams:
        yield ["RPUSH", "bare:stream:" + stream, *(1 for event in events if event.stream == stream)]
    yield ["HSET", "bare:versions", *(word for stream in streams for word in (stream, 1))]
    yield ["HSET", "bare:ids", *(word for event in events for word in (event.event_id, "1 1"))]


def _measure_read_model(client: Redis, settings: Settings) -> list[Throughput]:
    """Fold the log once, delete the read model, and then run only the commands of the commits."""
    [log] = open_market_logs(Stores(settings, client, None)).values()
    store = RecordingStore(client)
    segment = Segment("patterns", Build(1, 1), log.name)
    [lease] = store.lease([segment], "bench", 3_600)
    assert lease is not None
    projector = Projector(ActivePatterns(), log, store, lease)
    steps = batches(range(log.head()), settings.fold_batch)
    folding = Meter(client)
    with folding.running():
        measure_rate("project", steps, lambda _: projector.step(settings.fold_batch, 0))
    client.delete(*(key for key in client.scan_iter(SegmentKeys(segment).prefix + "*", count=10_000)))
    limit = Meter(client)
    with PackedPipeline(client) as pipeline:
        packed = iter([pipeline.pack(bare_commands(commit)) for commit in store.commits])
        with limit.running():
            measure_rate("bare commands", steps, lambda _: pipeline.run(next(packed)))
    return with_shares(
        limit.throughput("bare commands of the commits, packed before", log.head()),
        folding.throughput("project (read, fold, commit)", log.head()),
    )
