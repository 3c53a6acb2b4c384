"""How the service stands: what came in, how far each read model is, what is parked."""

import time
from collections.abc import Sequence
from typing import Any

import orjson
from redis import Redis

from infra.log.keys import tagged_key
from infra.log.partitions import all_log_names
from infra.read_models.checkpoints import logs_of
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.recording.counters import COUNTS_KEY
from infra.recording.dead_letters import INDEX_KEY, STATS_KEY
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build
from readapi.ports.operations import IntakeStatus, ReadModelStatus, SegmentStatus

RATE_IS_STALE_AFTER_SECONDS = 5.0
"""A segment that has committed nothing for so long folds no events at present."""

PARKED_LISTED = 1_000
"""Parked keys listed for one segment, at most."""


def read_model_statuses(client: Redis) -> list[ReadModelStatus]:
    """Every read model with the segments of its live build, and of one under way, in three round trips."""
    logs = all_log_names(client)
    versions = read_versions(client, READ_MODELS)
    # Before the first worker has run, the build that it will begin has everything still to fold.
    shown = {name: found.live or Build(READ_MODELS[name].version, 1) for name, found in versions.items()}
    segments = [
        Segment(name, build, log)
        for name, found in versions.items()
        for build in (shown[name], found.building)
        for log in logs
        if build and READ_MODELS[name].folds(log)
    ]
    statuses = dict(zip(segments, _segment_statuses(client, logs, segments), strict=True))

    def of(name: str, build: Build | None) -> list[SegmentStatus]:
        return [statuses[Segment(name, build, log)] for log in logs if READ_MODELS[name].folds(log)] if build else []

    return [
        ReadModelStatus(
            name=name,
            version=shown[name].version,
            previous_version=found.previous.version if found.previous else None,
            building_version=found.building.version if found.building else None,
            live=str(found.live) if found.live else None,
            previous=str(found.previous) if found.previous else None,
            building=str(found.building) if found.building else None,
            held=found.held,
            segments=of(name, shown[name]),
            building_segments=of(name, found.building),
        )
        for name, found in versions.items()
    ]


def _segment_statuses(client: Redis, logs: Sequence[str], segments: Sequence[Segment]) -> list[SegmentStatus]:
    with client.pipeline(transaction=False) as pipeline:
        for log in logs:
            pipeline.hget(tagged_key(log, "meta"), "position")
        for names in map(SegmentKeys, segments):
            pipeline.hgetall(names.state)
            pipeline.hlen(names.parked)
        replies = pipeline.execute()
    heads = {log: int(position or 0) for log, position in zip(logs, replies, strict=False)}
    found = list(zip(segments, replies[len(logs) :: 2], replies[len(logs) + 1 :: 2], strict=True))
    ages = _oldest_unfolded(client, [(segment.log, int(state.get(b"checkpoint", 0))) for segment, state, _ in found])
    return [
        _segment_status(segment, state, parked, heads[segment.log], age)
        for (segment, state, parked), age in zip(found, ages, strict=True)
    ]


def _oldest_unfolded(client: Redis, checkpoints: list[tuple[str, int]]) -> list[float]:
    """For each log and checkpoint, the age in seconds of the first event behind it; 0 if there is none."""
    with client.pipeline(transaction=False) as pipeline:
        for log, checkpoint in checkpoints:
            pipeline.xrange(tagged_key(log, "log"), f"({checkpoint}-0", count=1)
        replies: list[Any] = pipeline.execute()
    now = time.time()
    return [max(0.0, now - int(reply[0][1][b"recorded_at"]) / 1000) if reply else 0.0 for reply in replies]


def _segment_status(segment: Segment, state: dict[bytes, bytes], parked: int, head: int, age: float) -> SegmentStatus:
    checkpoint = int(state.get(b"checkpoint", 0))
    idle = time.time() - float(state.get(b"committed_at", 0)) > RATE_IS_STALE_AFTER_SECONDS
    leased = float(state.get(b"leased_until", 0)) / 1000 > time.time()
    return SegmentStatus(
        log=segment.log,
        checkpoint=checkpoint,
        head=head,
        lag_events=max(0, head - checkpoint),
        lag_seconds=round(age, 3),
        events_per_second=0.0 if idle else round(float(state.get(b"events_per_second", 0)), 1),
        owner=state[b"owner"].decode() if leased else None,
        parked_keys=parked,
    )


def read_parked_keys(client: Redis, read_model: str) -> list[dict[str, Any]]:
    """The parked keys of the live build, ``PARKED_LISTED`` a log at most, with how many events wait under each."""
    live = read_versions(client, [read_model])[read_model].live
    if live is None:
        return []
    parked: list[dict[str, Any]] = []
    for log in logs_of(client, read_model):
        names = SegmentKeys(Segment(read_model, live, log))
        found = []
        for name, note in client.hscan_iter(names.parked, count=PARKED_LISTED):
            found.append((name.decode(), orjson.loads(note)))
            if len(found) == PARKED_LISTED:
                break
        with client.pipeline(transaction=False) as pipeline:
            for name, _ in found:
                pipeline.llen(names.parked_events(name))
            lengths = pipeline.execute()
        parked += [
            {"key": name, "log": log, "events": events, **note}
            for (name, note), events in zip(found, lengths, strict=True)
        ]
    return parked


def read_intake(client: Redis) -> IntakeStatus:
    """What came in since the beginning."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(COUNTS_KEY)
        pipeline.zcard(INDEX_KEY)
        pipeline.hget(STATS_KEY, "dropped")
        counts, letters, dropped = pipeline.execute()
    return IntakeStatus(
        counts={name.decode(): int(number) for name, number in counts.items()},
        dead_letters=letters,
        dead_letters_dropped=int(dropped or 0),
    )
