"""The status of the service: its intake, the progress of each read model, and the parked keys."""

import time
from collections.abc import Sequence
from itertools import islice
from typing import Any

import orjson

from infra.log.keys import tagged_key
from infra.log.lag import Lag, compute_lag
from infra.log.partitions import all_log_names
from infra.projecting.running_code import RunningCode, read_running_code
from infra.read_models.checkpoints import logs_of
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.recording.counters import COUNTS_KEY
from infra.recording.dead_letters import INDEX_KEY, STATS_KEY
from infra.recording.gaps import read_gaps
from infra.redis.connections import RedisClient
from infra.redis.scans import scan_hash
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build
from readapi.ports.operations import IntakeStatus, ReadModelStatus, SegmentStatus

RATE_IS_STALE_AFTER_SECONDS = 5.0
"""Seconds without a commit after which the rate of a segment counts as 0."""

PARKED_KEY_LIMIT = 1_000
"""Highest number of parked keys that are listed for one log."""


def read_model_statuses(client: RedisClient) -> list[ReadModelStatus]:
    """Read the status of every read model: its builds, and the segments of the live build and the build under way.

    The reads take five round trips.
    """
    logs = all_log_names(client)
    versions = read_versions(client, READ_MODELS)
    running = read_running_code(client, READ_MODELS)
    # Before the first worker has run, the status describes the build that the worker will begin.
    live_builds = {name: builds.live or Build(READ_MODELS[name].version, 1) for name, builds in versions.items()}
    segments = [
        Segment(name, build, log)
        for name, builds in versions.items()
        for build in (live_builds[name], builds.building)
        for log in logs
        if build and READ_MODELS[name].folds(log)
    ]
    statuses = dict(zip(segments, _segment_statuses(client, logs, segments), strict=True))

    def of_build(name: str, build: Build | None) -> list[SegmentStatus]:
        return [statuses[Segment(name, build, log)] for log in logs if READ_MODELS[name].folds(log)] if build else []

    return [
        ReadModelStatus(
            name=name,
            version=live_builds[name].version,
            previous_version=builds.previous.version if builds.previous else None,
            building_version=builds.building.version if builds.building else None,
            live=str(builds.live) if builds.live else None,
            previous=str(builds.previous) if builds.previous else None,
            building=str(builds.building) if builds.building else None,
            held=builds.held,
            folded=_can_fold(running[name], builds.live),
            segments=of_build(name, live_builds[name]),
            building_segments=of_build(name, builds.building),
        )
        for name, builds in versions.items()
    ]


def _can_fold(running: RunningCode, build: Build | None) -> bool:
    return build is not None and build.version in {code.version for code in running}


def _segment_statuses(client: RedisClient, logs: Sequence[str], segments: Sequence[Segment]) -> list[SegmentStatus]:
    with client.pipeline(transaction=False) as pipeline:
        for log in logs:
            pipeline.hget(tagged_key(log, "meta"), "position")
        for keys in map(SegmentKeys, segments):
            pipeline.hgetall(keys.state)
            pipeline.hlen(keys.parked)
        replies = pipeline.execute()
    heads = {log: int(position or 0) for log, position in zip(logs, replies, strict=False)}
    states = replies[len(logs) :: 2]
    checkpoints = [int(state.get(b"checkpoint", 0)) for state in states]
    with client.pipeline(transaction=False) as pipeline:
        for segment, checkpoint in zip(segments, checkpoints, strict=True):
            pipeline.xrange(tagged_key(segment.log, "log"), f"({checkpoint}-0", count=1)
        next_entries = pipeline.execute()
    lags = [
        compute_lag(heads[segment.log], checkpoint, entries)
        for segment, checkpoint, entries in zip(segments, checkpoints, next_entries, strict=True)
    ]
    parked_counts = replies[len(logs) + 1 :: 2]
    return [
        _segment_status(segment.log, heads[segment.log], state, parked, lag)
        for segment, state, parked, lag in zip(segments, states, parked_counts, lags, strict=True)
    ]


def _segment_status(log: str, head: int, state: dict[bytes, bytes], parked: int, lag: Lag) -> SegmentStatus:
    is_idle = time.time() - float(state.get(b"committed_at", 0)) > RATE_IS_STALE_AFTER_SECONDS
    is_leased = float(state.get(b"leased_until", 0)) / 1000 > time.time()
    return SegmentStatus(
        log=log,
        checkpoint=int(state.get(b"checkpoint", 0)),
        head=head,
        lag_events=lag.events,
        lag_seconds=lag.seconds,
        events_per_second=0.0 if is_idle else round(float(state.get(b"events_per_second", 0)), 1),
        owner=state[b"owner"].decode() if is_leased else None,
        parked_keys=parked,
    )


def read_parked_keys(client: RedisClient, read_model: str) -> list[dict[str, Any]]:
    """Read the parked keys of the live build, with the number of waiting events and the error of each key.

    The result has at most ``PARKED_KEY_LIMIT`` keys for each log.
    """
    live = read_versions(client, [read_model])[read_model].live
    if live is None:
        return []
    parked_keys: list[dict[str, Any]] = []
    for log in logs_of(client, read_model):
        keys = SegmentKeys(Segment(read_model, live, log))
        scan = islice(scan_hash(client, keys.parked, PARKED_KEY_LIMIT), PARKED_KEY_LIMIT)
        descriptions = [(key.decode(), orjson.loads(description)) for key, description in scan]
        with client.pipeline(transaction=False) as pipeline:
            for key, _ in descriptions:
                pipeline.llen(keys.parked_events(key))
            lengths = pipeline.execute()
        parked_keys += [
            {"key": key, "log": log, "events": events, **description}
            for (key, description), events in zip(descriptions, lengths, strict=True)
        ]
    return parked_keys


def read_intake(client: RedisClient) -> IntakeStatus:
    """Read the counts of all received messages, and of the dead letters."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(COUNTS_KEY)
        pipeline.zcard(INDEX_KEY)
        pipeline.hget(STATS_KEY, "dropped")
        counts, letters, dropped = pipeline.execute()
    return IntakeStatus(
        counts={name.decode(): int(number) for name, number in counts.items()},
        dead_letters=letters,
        dead_letters_dropped=int(dropped or 0),
        gaps=read_gaps(client),
    )
