"""``tickview bench ingest``: events per second into the log and into the read model, beside the bare commands."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from redis import Redis

from domain.announcements import Message
from domain.codec import encode, topic_of
from domain.wire import read
from infra.bench.load import detections
from infra.bench.measurement import Throughput, batches, beside, rate
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder
from infra.log.event_log import EventLog, NewEvent
from infra.log.handle import LogOptions
from infra.projecting.projector import Projector
from infra.read_models.commit_commands import Command
from infra.read_models.keys import SegmentKeys
from infra.read_models.pending_commit import RedisCommit
from infra.read_models.store import RedisStore
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.ports import Lease, Segment
from projections.versions import Build


def measure(client: Redis, events: int, symbols: int) -> dict[str, list[Throughput]]:
    """Rates by what was measured; the first of each list is the limit. The server is emptied first."""
    client.flushall()
    settings = Settings(partitions=1)
    messages = list(detections(events, symbols, time.time()))
    parts = batches(messages, settings.batch_size)
    return {"log": _into_the_log(client, settings, parts), "read model": _into_the_read_model(client, settings)}


def _into_the_log(client: Redis, settings: Settings, parts: Sequence[Sequence[Message]]) -> list[Throughput]:
    stores = Stores(settings, client, None)
    recorder = open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))
    read_parts = [[_new_event(message) for message in part] for part in parts]
    bare = rate("bare commands, redis-py pipeline", read_parts, lambda part: _append_bare(client, part))
    appended = rate("append", read_parts, EventLog(client, "bench", LogOptions(settings.durability)).append)
    recorded = rate("record (read the message and append)", parts, lambda part: recorder.record(list(part)))
    return beside(bare, appended, recorded)


def _new_event(message: Message) -> NewEvent:
    [event] = read(message.channel, message.payload, message.received_at).events
    return NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id)


def _append_bare(client: Redis, events: Sequence[NewEvent]) -> None:
    """The writes that an append makes for these events, unchecked."""
    with client.pipeline(transaction=False) as pipeline:
        for event in events:
            entry: dict[Any, Any] = {"stream": event.stream, "version": 1, "topic": event.topic}
            entry |= {"event_id": event.event_id, "recorded_at": 1_757_001_600_000, "state": event.state}
            pipeline.xadd("bare:log", entry)
            pipeline.hset("bare:ids", event.event_id, 1)
            pipeline.rpush("bare:stream:" + event.stream, 1)
            pipeline.hset("bare:versions", event.stream, 1)
        pipeline.execute()


class _NotingStore(RedisStore):
    """The store, which also notes the commands of every commit."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self.commits: list[list[Command]] = []

    def send(self, lease: Lease, position: int, commands: Iterable[Command]) -> RedisCommit:
        noted = list(commands)
        self.commits.append(noted)
        return super().send(lease, position, noted)


def _into_the_read_model(client: Redis, settings: Settings) -> list[Throughput]:
    """Folds the recorded log once, then runs the very commands of its commits, bare, on a clean slate."""
    [log] = open_market_logs(Stores(settings, client, None)).values()
    store = _NotingStore(client)
    segment = Segment("patterns", Build(1, 1), log.name)
    [lease] = store.lease([segment], "bench", 3_600)
    assert lease is not None
    projector = Projector(ActivePatterns(), log, store, lease)
    steps = batches(range(log.head()), settings.fold_batch)
    folded = rate("project (read, fold, commit)", steps, lambda _: projector.step(settings.fold_batch, 0))
    client.delete(*(key for key in client.scan_iter(SegmentKeys(segment).prefix + "*", count=10_000)))
    noted = iter(store.commits)
    bare = rate("bare commands of the commits, redis-py pipeline", steps, lambda _: run_bare(client, next(noted)))
    return beside(bare, folded)


def run_bare(client: Redis, commands: Iterable[Command]) -> None:
    """The commands alone, unchecked."""
    with client.pipeline(transaction=False) as pipeline:
        for name, key, words in commands:
            step = 2 if name == "ZINCRBY" else len(words)
            for start in range(0, len(words), step):
                pipeline.execute_command(name, key, *words[start : start + step])
        pipeline.execute()
