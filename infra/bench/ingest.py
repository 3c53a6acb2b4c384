"""``tickview bench ingest``: events per second into the log and into a read model.

The limit is the rate of the same Redis commands without TickView.
"""

import time
from collections.abc import Sequence
from typing import Any

from redis import Redis

from domain.announcements import Message
from domain.codec import encode, topic_of
from domain.wire import read
from infra.bench.detections import detections
from infra.bench.measurement import Throughput, batches, measure_rate, with_shares
from infra.bench.recording_store import RecordingStore, run_commands
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder
from infra.log.event_log import EventLog, NewEvent
from infra.log.handle import LogOptions
from infra.projecting.projector import Projector
from infra.read_models.keys import SegmentKeys
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.ports import Segment
from projections.versions import Build


def measure(client: Redis, events: int, symbols: int) -> dict[str, list[Throughput]]:
    """Delete all data of the server and measure the rates into the log and into the read model.

    Returns:
        Name of the target -> rates in events per second. The first rate of each list is the limit.
    """
    client.flushall()
    settings = Settings(partitions=1)
    messages = list(detections(events, symbols, time.time()))
    parts = batches(messages, settings.batch_size)
    return {"log": _measure_log(client, settings, parts), "read model": _measure_read_model(client, settings)}


def _measure_log(client: Redis, settings: Settings, parts: Sequence[Sequence[Message]]) -> list[Throughput]:
    stores = Stores(settings, client, None)
    recorder = open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))
    read_parts = [[_new_event(message) for message in part] for part in parts]
    bare = measure_rate("bare commands, redis-py pipeline", read_parts, lambda part: _run_bare_append(client, part))
    appended = measure_rate("append", read_parts, EventLog(client, "bench", LogOptions(settings.durability)).append)
    recorded = measure_rate("record (read the message and append)", parts, lambda part: recorder.record(list(part)))
    return with_shares(bare, appended, recorded)


def _new_event(message: Message) -> NewEvent:
    [event] = read(message.channel, message.payload, message.received_at).events
    return NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id)


def _run_bare_append(client: Redis, events: Sequence[NewEvent]) -> None:
    """Run the write commands of an append, without its checks."""
    with client.pipeline(transaction=False) as pipeline:
        for event in events:
            entry: dict[Any, Any] = {"stream": event.stream, "version": 1, "topic": event.topic}
            entry |= {"event_id": event.event_id, "recorded_at": 1_757_001_600_000, "state": event.state}
            pipeline.xadd("bare:log", entry)
            pipeline.hset("bare:ids", event.event_id, 1)
            pipeline.rpush("bare:stream:" + event.stream, 1)
            pipeline.hset("bare:versions", event.stream, 1)
        pipeline.execute()


def _measure_read_model(client: Redis, settings: Settings) -> list[Throughput]:
    """Fold the log once, delete the read model, and then run only the commands of the commits."""
    [log] = open_market_logs(Stores(settings, client, None)).values()
    store = RecordingStore(client)
    segment = Segment("patterns", Build(1, 1), log.name)
    [lease] = store.lease([segment], "bench", 3_600)
    assert lease is not None
    projector = Projector(ActivePatterns(), log, store, lease)
    steps = batches(range(log.head()), settings.fold_batch)
    folded = measure_rate("project (read, fold, commit)", steps, lambda _: projector.step(settings.fold_batch, 0))
    client.delete(*(key for key in client.scan_iter(SegmentKeys(segment).prefix + "*", count=10_000)))
    commits = iter(store.commits)
    bare = measure_rate(
        "bare commands of the commits, redis-py pipeline", steps, lambda _: run_commands(client, next(commits))
    )
    return with_shares(bare, folded)
