"""What workers do about the builds of read models: begin those their code asks for, switch, remove what is dropped."""

from collections.abc import Mapping, Sequence
from operator import methodcaller
from typing import Any

import structlog
from redis import Redis

from infra.log.keys import tagged_key
from infra.processes.errors import StartupError
from infra.read_models.keys import SegmentKeys, fingerprints_key
from infra.read_models.versions import change_versions, fingerprint_of_version, read_versions
from projections.base import Projection
from projections.fingerprint import fingerprint
from projections.ports import Segment
from projections.versions import Build, Versions

logger = structlog.get_logger()

NEARLY_EVENTS = 1_000
"""A build that is so near to the head of a log, and no further from it than the live one, has caught up."""

REMOVED_AT_ONCE = 1_000
"""Keys of a dropped build removed by one command, about."""


def check_fingerprints(client: Redis, projections: Sequence[Projection[Any, Any]]) -> None:
    """Raises StartupError for a projection that has changed since its version was first run."""
    for projection in projections:
        ours = fingerprint(projection)
        first = fingerprint_of_version(client, projection.name, projection.version, ours)
        if first != ours:
            raise StartupError(
                f"the projection {projection.name} has changed, but is still version {projection.version} "
                f"(fingerprint {ours}, was {first}): raise its version, so that the read model is built anew"
            )


def deploy(client: Redis, projections: Mapping[str, Projection[Any, Any]]) -> dict[str, Versions]:
    """The builds of each read model, those begun that this code asks for."""
    versions = read_versions(client, projections)
    for name, projection in projections.items():
        if versions[name].deployed(projection.version) != versions[name]:
            versions[name] = change_versions(client, name, methodcaller("deployed", projection.version))
            logger.info("build begun", read_model=name, build=str(versions[name].maintained[-1]))
    return versions


def switch_if_caught_up(client: Redis, name: str, versions: Versions, logs: Sequence[str]) -> Versions:
    """Let the build under way go live if it has caught up on all segments and nobody holds it."""
    build = versions.building
    if build is None or versions.held or not has_caught_up(client, name, versions, logs):
        return versions
    after = change_versions(client, name, lambda found: found.switched(build) if found.building == build else found)
    logger.info("build is live", read_model=name, build=str(build), previous=str(after.previous))
    return after


def has_caught_up(client: Redis, name: str, versions: Versions, logs: Sequence[str]) -> bool:
    """Whether the build under way is near the head of every log, and nowhere behind the live one."""
    if versions.building is None or versions.live is None:
        return False
    with client.pipeline(transaction=False) as pipeline:
        for log in logs:
            pipeline.hget(SegmentKeys(Segment(name, versions.live, log)).state, "checkpoint")
            pipeline.hget(SegmentKeys(Segment(name, versions.building, log)).state, "checkpoint")
            pipeline.hget(tagged_key(log, "meta"), "position")
        positions = [int(position or 0) for position in pipeline.execute()]
    return all(
        built >= live and head - built <= NEARLY_EVENTS
        for live, built, head in zip(*[iter(positions)] * 3, strict=True)
    )


def remove(client: Redis, name: str, build: Build, logs: Sequence[str]) -> None:
    """Remove every key of a dropped build, a thousand at a time; safe to be done by several, and to be repeated."""
    for log in logs:
        keys: list[bytes] = []
        for found in client.scan_iter(SegmentKeys(Segment(name, build, log)).prefix + "*", count=REMOVED_AT_ONCE):
            keys.append(found)
            if len(keys) == REMOVED_AT_ONCE:
                client.unlink(*keys)
                keys.clear()
        if keys:
            client.unlink(*keys)
    after = change_versions(client, name, lambda versions: versions.dropped(build))
    if build.version not in {other.version for other in (*after.maintained, *after.dropping)}:
        client.hdel(fingerprints_key(name), str(build.version))
    logger.info("build removed", read_model=name, build=str(build))
