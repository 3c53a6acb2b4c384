"""The read models as those who fold a log: how far the slowest is, and what becomes of them where the log was cut."""

from collections.abc import Iterable
from operator import methodcaller
from typing import NamedTuple

from redis import Redis

from infra.log.partitions import all_log_names
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import change_versions, read_versions
from projections.ports import Segment
from projections.registry import FORMER, READ_MODELS, projection_of
from projections.versions import Build


class Checkpoint(NamedTuple):
    """How far one build of a read model has folded a log."""

    read_model: str
    build: Build
    position: int


def logs_of(client: Redis, read_model: str) -> list[str]:
    """Return the logs that a read model folds. Raises KeyError where no read model has this name."""
    return [log for log in all_log_names(client) if READ_MODELS[read_model].folds(log)]


def read_checkpoints(client: Redis, log: str) -> list[Checkpoint]:
    """The checkpoints of every build that folds a log and that somebody may still fold, in two round trips.

    A read model that was never begun has everything before it. A build that no code knows any more stands still; it
    can be brought up to date from the archive, and holds up nobody.
    """
    followers = {name: projection for name, projection in READ_MODELS.items() if projection.folds(log)}
    known = (*READ_MODELS.values(), *FORMER)
    versions = read_versions(client, followers)
    begun = [
        (name, build)
        for name, found in versions.items()
        for build in found.maintained
        if projection_of(known, name, build.version)
    ]
    with client.pipeline(transaction=False) as pipeline:
        for name, build in begun:
            pipeline.hget(SegmentKeys(Segment(name, build, log)).state, "checkpoint")
        positions = pipeline.execute()
    found = [Checkpoint(name, build, int(one or 0)) for (name, build), one in zip(begun, positions, strict=True)]
    missing = followers.keys() - {name for name, _ in begun}
    return found + [Checkpoint(name, Build(followers[name].version, 0), 0) for name in missing]


def fence_log(client: Redis, log: str) -> list[Checkpoint]:
    """Let no worker commit what it has read of a log before now; how far each build has come.

    A worker whose commit is refused takes a new lease and reads on from the checkpoint.
    """
    versions = read_versions(client, [name for name, projection in READ_MODELS.items() if projection.folds(log)])
    segments = [Segment(name, build, log) for name, found in versions.items() for build in found.maintained]
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


def request_rebuilds(client: Redis, ahead: Iterable[Checkpoint]) -> list[str]:
    """Have these builds built anew; the names of their read models."""
    builds: dict[str, set[Build]] = {}
    for one in ahead:
        builds.setdefault(one.read_model, set()).add(one.build)
    for name, unsound in builds.items():
        change_versions(client, name, methodcaller("discredited", unsound))
    return sorted(builds)
