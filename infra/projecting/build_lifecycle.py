"""Lifecycle of the builds of read models: workers begin the builds that their code needs, and switch to them."""

from collections.abc import Mapping, Sequence
from operator import methodcaller
from typing import Any, NamedTuple

import structlog

from infra.log.keys import tagged_key
from infra.log.lag import events_behind
from infra.processes.errors import StartupError
from infra.projecting.running_code import read_running_code
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import change_versions, read_builders, read_versions, store_builders
from infra.redis.connections import RedisClient
from projections.base import Projection
from projections.fingerprint import ProjectionCode
from projections.ports import Segment
from projections.versions import Build, Versions

logger = structlog.get_logger()

CATCH_UP_EVENTS = 1_000
"""Largest distance, in events, between a build that has caught up and the head of each log."""


class ModelBuild(NamedTuple):
    """A build together with the name of its read model."""

    read_model: str
    build: Build

    @classmethod
    def of(cls, segment: Segment) -> "ModelBuild":
        """Return the build to which a segment belongs."""
        return cls(segment.read_model, segment.build)


def check_code(client: RedisClient, codes: Sequence[ProjectionCode]) -> None:
    """Check that no other code of the same version builds a read model or runs in another worker. Store nothing.

    Raises:
        StartupError: A projection has changed, but its version has not.
    """
    running = read_running_code(client, {code.read_model for code in codes})
    for code, builder in zip(codes, read_builders(client, codes), strict=True):
        for other in (builder, *running[code.read_model]):
            _check_unchanged(code, other)


def claim_builds(client: RedisClient, codes: Sequence[ProjectionCode]) -> None:
    """Store that these codes build their versions, before a worker folds builds of these versions. Two round trips.

    Raises:
        StartupError: Another code builds one of these versions.
    """
    store_builders(client, codes)
    for code, builder in zip(codes, read_builders(client, codes), strict=True):
        _check_unchanged(code, builder)


def _check_unchanged(code: ProjectionCode, other: ProjectionCode | None) -> None:
    if other and other.version == code.version and other != code:
        raise StartupError(
            f"The projection {code.read_model} has changed, but it is still version {code.version} "
            f"(fingerprint {code.fingerprint}, was {other.fingerprint}). "
            "Raise its version, so that workers build the read model anew."
        )


def begin_builds(client: RedisClient, projections: Mapping[str, Projection[Any, Any]]) -> dict[str, Versions]:
    """Begin every build that the projections need and that does not exist yet. Return the builds by read model."""
    versions = read_versions(client, projections)
    for name, projection in projections.items():
        if versions[name].deployed(projection.version) != versions[name]:
            versions[name] = change_versions(client, name, methodcaller("deployed", projection.version))
            logger.info("build begun", read_model=name, build=str(versions[name].maintained[-1]))
    return versions


def switch_if_caught_up(client: RedisClient, name: str, versions: Versions, logs: Sequence[str]) -> Versions:
    """Make the build under way live if it has caught up on all logs and is not held. Return the builds after it."""
    build = versions.building
    if build is None or versions.held or not has_caught_up(client, name, versions, logs):
        return versions
    after = change_versions(
        client, name, lambda current: current.switched(build) if current.building == build else current
    )
    logger.info("build is live", read_model=name, build=str(build), previous=str(after.previous))
    return after


def has_caught_up(client: RedisClient, name: str, versions: Versions, logs: Sequence[str]) -> bool:
    """Check that the build under way is near the head of every log and not behind the live build on any log."""
    if versions.building is None or versions.live is None:
        return False
    with client.pipeline(transaction=False) as pipeline:
        for log in logs:
            pipeline.hget(SegmentKeys(Segment(name, versions.live, log)).state, "checkpoint")
            pipeline.hget(SegmentKeys(Segment(name, versions.building, log)).state, "checkpoint")
            pipeline.hget(tagged_key(log, "meta"), "position")
        positions = [int(position or 0) for position in pipeline.execute()]
    return all(
        building >= live and events_behind(head, building) <= CATCH_UP_EVENTS
        for live, building, head in zip(*[iter(positions)] * 3, strict=True)
    )
