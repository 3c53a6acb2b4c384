"""Commands of an operator on read models: replay, rollback, and the retry of parked keys."""

from collections.abc import Iterator
from itertools import islice

from infra.operations.foldability import check_build, check_running
from infra.projecting import build_lifecycle
from infra.read_models.checkpoints import logs_of
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import change_versions, read_versions
from infra.redis.connections import RedisClient
from infra.redis.scans import scan_hash
from projections.fingerprint import ProjectionCode
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build, NoSuchBuildError, Versions
from readapi.ports.errors import NoSuchReadModelError

KEY_BATCH = 1_000
"""Highest number of parked keys that one request marks for a retry."""


def check_read_model_name(name: str) -> None:
    """Validate the name of a read model. Raises NoSuchReadModelError, with the names of all read models."""
    if name not in READ_MODELS:
        raise NoSuchReadModelError(f"There is no read model {name!r}. The read models are {', '.join(READ_MODELS)}.")


def release_code() -> dict[str, ProjectionCode]:
    """Return the code of each current read model in this process. Call this at start-up.

    Raises:
        NoSourceError: A projection is installed without its source.
    """
    return {name: ProjectionCode.of(projection) for name, projection in READ_MODELS.items()}


def replay(client: RedisClient, code: ProjectionCode, *, held: bool, throttle: int) -> Versions:
    """Let workers build a read model again from the first event. A build that is under way is continued.

    The new build has the version of this code, or the version of the live build if that is higher.

    Args:
        client: The Redis server that holds the read models.
        code: The code of the read model in this process.
        held: Whether the build waits for an operator before it goes live.
        throttle: Highest number of events per second and segment; 0 means no limit.

    Returns:
        The builds of the read model after the command.

    Raises:
        NotFoldableError: No running worker carries this code, or none can fold the build.
        NoSuchBuildError: There is no live build.
    """
    check_running(client, code)

    def begin_replay(versions: Versions) -> Versions:
        version = max(code.version, versions.live.version if versions.live else 0)
        after = versions.replayed(version, held=held, throttle=throttle)
        if after.building:
            check_build(client, code.read_model, after.building)
        return after

    return change_versions(client, code.read_model, begin_replay)


def has_caught_up(client: RedisClient, name: str, build: Build) -> bool:
    """Return whether the build under way has caught up with the logs.

    Raises:
        NotFoldableError: No running worker can fold the build.
        NoSuchBuildError: The build is not under way.
    """
    versions = read_versions(client, [name])[name]
    if versions.building != build:
        raise NoSuchBuildError(f"Build {build} of {name} is not under way.")
    check_build(client, name, build)
    return build_lifecycle.has_caught_up(client, name, versions, logs_of(client, name))


def switch(client: RedisClient, name: str, build: Build) -> None:
    """Make the build under way live, which has caught up and is held.

    Raises:
        NotFoldableError: No running worker can fold the build.
        NoSuchBuildError: The build is not under way.
    """
    check_build(client, name, build)
    change_versions(client, name, lambda versions: versions.switched(build))


def rollback(client: RedisClient, name: str) -> Versions:
    """Make the previous build live again. Return the builds after the command.

    Raises:
        NoSuchReadModelError: There is no read model with this name.
        NoSuchBuildError: There is no previous build.
        NotFoldableError: No running worker can fold the previous build.
    """
    check_read_model_name(name)

    def roll_back(versions: Versions) -> Versions:
        after = versions.rolled_back()
        if after.live:
            check_build(client, name, after.live)
        return after

    return change_versions(client, name, roll_back)


def retry_parked(client: RedisClient, name: str, key: str | None = None) -> list[str]:
    """Request a retry of parked keys in every build that has them. Workers fold the events of each key in order.

    Args:
        client: The Redis server that holds the read models.
        name: The name of the read model.
        key: The parked key; None for all parked keys.

    Returns:
        The keys for which a retry was requested, in alphabetical order.

    Raises:
        NoSuchReadModelError: There is no read model with this name.
    """
    check_read_model_name(name)
    retried: set[str] = set()
    for segment_keys in _segments(client, name):
        for batch in _parked_keys(client, segment_keys, key):
            client.sadd(segment_keys.retry, *batch)
            retried.update(batch)
    return sorted(retried)


def _segments(client: RedisClient, name: str) -> list[SegmentKeys]:
    builds = read_versions(client, [name])[name].maintained
    return [SegmentKeys(Segment(name, build, log)) for build in builds for log in logs_of(client, name)]


def _parked_keys(client: RedisClient, segment_keys: SegmentKeys, key: str | None) -> Iterator[list[str]]:
    """Yield the parked keys of a segment in batches, or only ``key`` if it is parked there."""
    if key is not None:
        if client.hexists(segment_keys.parked, key):
            yield [key]
        return
    parked_keys = (parked.decode() for parked, _ in scan_hash(client, segment_keys.parked, KEY_BATCH))
    while batch := list(islice(parked_keys, KEY_BATCH)):
        yield batch
