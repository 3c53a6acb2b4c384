"""The stages of a pushed change, from the XADD of a producer to the last client."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from redis import Redis

from infra.bench.errors import BenchmarkError
from infra.bench.measurement import quantile
from infra.composition import Stores, open_market_logs
from infra.log.event_log import EventLog
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.ports import Segment

READ_BATCH = 1_000
"""Number of log entries per read."""

ID_MILLISECONDS = 1_000_000
"""The id of a commit in the changes stream has its time in epoch milliseconds modulo this number."""

Times = Mapping[int, float]
"""Epoch millisecond of a detection, which identifies it -> epoch seconds."""


class Stage(NamedTuple):
    """The duration of one stage, and of all stages up to its end, in milliseconds."""

    name: str
    p50_ms: float
    p99_ms: float
    total_p50_ms: float
    total_p99_ms: float


def measure_stages(
    client: Redis, settings: Settings, published: Times, arrivals: Mapping[int, Sequence[float]]
) -> list[Stage]:
    """Measure the stages of published detections. Redis tells the times of the first two in whole milliseconds.

    Args:
        client: The client of the Redis server, which shares the clock of this process.
        settings: The settings of the service.
        published: For each detection the time before its XADD.
        arrivals: For each detection the times at which clients received it.

    Raises:
        BenchmarkError: No detection passed through all stages.
    """
    logs = open_market_logs(Stores(settings, client, None))
    ends: list[tuple[str, Times]] = [
        ("XADD → event in the log", dict(_recorded(logs.values()))),
        ("event in the log → begin of the commit", dict(_committed(client, list(logs)))),
        ("begin of the commit → first client", {detection: min(times) for detection, times in arrivals.items()}),
        ("first client → last client", {detection: max(times) for detection, times in arrivals.items()}),
    ]
    complete = [detection for detection in published if all(detection in times for _, times in ends)]
    if not complete:
        raise BenchmarkError("No detection passed through all stages.")
    stages: list[Stage] = []
    before = published
    for name, times in ends:
        durations = sorted((times[detection] - before[detection]) * 1_000 for detection in complete)
        totals = sorted((times[detection] - published[detection]) * 1_000 for detection in complete)
        stages.append(Stage(name, *_quantiles(durations), *_quantiles(totals)))
        before = times
    return stages


def _quantiles(sorted_values: Sequence[float]) -> tuple[float, float]:
    # A time of Redis is cut to a whole millisecond, so that a short stage may seem to end before it begins.
    p50, p99 = (max(0.0, round(quantile(sorted_values, share), 1)) for share in (0.5, 0.99))
    return p50, p99


def _recorded(logs: Iterable[EventLog]) -> Iterator[tuple[int, float]]:
    for log in logs:
        position = 0
        while entries := log.read(position, READ_BATCH):
            for entry in entries:
                yield round(orjson.loads(entry.state)["detected_at"] * 1_000), entry.recorded_at
            position = entries[-1].position


def _committed(client: Redis, logs: Sequence[str]) -> Iterator[tuple[int, float]]:
    """Yield each detection with the time at which the worker began the commit of its row."""
    build = read_versions(client, [ActivePatterns.name])[ActivePatterns.name].live
    assert build is not None
    for log in logs:
        entries: Any = client.xrange(SegmentKeys(Segment(ActivePatterns.name, build, log)).changes)
        for entry_id, fields in entries:
            milliseconds = int(entry_id.partition(b"-")[2])
            recorded = round(float(fields[b"recorded_at"]) * 1_000)
            committed = recorded + (milliseconds - recorded) % ID_MILLISECONDS
            for key, _ in orjson.loads(fields[b"rows"]):
                yield int(key.rpartition(":")[2]), committed / 1_000
