"""The checkpoints of all builds that fold a log, and the fence and the rebuilds after the log has lost its end."""

from collections.abc import Iterable
from operator import methodcaller
from typing import NamedTuple

from infra.log.partitions import all_log_names
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import change_versions, read_versions
from infra.redis.connections import RedisClient
from projections.ports import Segment
from projections.registry import FORMER, READ_MODELS, projection_of
from projections.versions import Build


class Checkpoint(NamedTuple):
    """The position up to which one build of a read model has folded a log."""

    read_model: str
    build: Build
    position: int


def logs_of(client: RedisClient, read_model: str) -> list[str]:
    """Return the names of the logs that a read model folds.

    Raises:
        KeyError: No read model has this name.
    """
    return [log for log in all_log_names(client) if READ_MODELS[read_model].folds(log)]


def read_checkpoints(client: RedisClient, log: str) -> list[Checkpoint]:
    """Read the checkpoints of every build that folds a log and whose code exists, in two round trips.

    A read model without a build has the checkpoint 0. A build without code is left out: no worker can fold it, and the
    archive has all events for a later continuation, so that the build does not delay the trimming of the log.
    """
    read_models = {name: projection for name, projection in READ_MODELS.items() if projection.folds(log)}
    known = (*READ_MODELS.values(), *FORMER)
    versions = read_versions(client, read_models)
    builds = [
        (name, build)
        for name, model_versions in versions.items()
        for build in model_versions.maintained
        if projection_of(known, name, build.version)
    ]
    with client.pipeline(transaction=False) as pipeline:
        for name, build in builds:
            pipeline.hget(SegmentKeys(Segment(name, build, log)).state, "checkpoint")
        positions = pipeline.execute()
    checkpoints = [
        Checkpoint(name, build, int(position or 0)) for (name, build), position in zip(builds, positions, strict=True)
    ]
    without_build = read_models.keys() - {name for name, _ in builds}
    return checkpoints + [Checkpoint(name, Build(read_models[name].version, 0), 0) for name in without_build]


def fence_log(client: RedisClient, log: str) -> list[Checkpoint]:
    """End the leases on all segments of a log, and return the checkpoint of each build.

    The fence then refuses the commits of all events that workers have read before. A worker whose commit is refused
    takes a new lease and continues from the checkpoint.
    """
    versions = read_versions(client, [name for name, projection in READ_MODELS.items() if projection.folds(log)])
    segments = [Segment(name, build, log) for name, model in versions.items() for build in model.maintained]
    with client.pipeline(transaction=False) as pipeline:
        for segment in segments:
            state = SegmentKeys(segment).state
            pipeline.hincrby(state, "epoch", 1)
            pipeline.hset(state, "leased_until", 0)
            pipeline.hget(state, "checkpoint")
        replies = pipeline.execute()
    return [
        Checkpoint(segment.read_model, segment.build, int(position or 0))
        for segment, position in zip(segments, replies[2::3], strict=True)
    ]


def request_rebuilds(client: RedisClient, checkpoints: Iterable[Checkpoint]) -> list[str]:
    """Request that the builds with these checkpoints are built again. Return the names of their read models."""
    builds: dict[str, set[Build]] = {}
    for checkpoint in checkpoints:
        builds.setdefault(checkpoint.read_model, set()).add(checkpoint.build)
    for name, unsound in builds.items():
        change_versions(client, name, methodcaller("discredited", unsound))
    return sorted(builds)
