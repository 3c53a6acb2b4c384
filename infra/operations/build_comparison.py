"""The verification of a replay: two builds of a read model are compared, and the first differences are shown."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from infra.composition import redis_url
from infra.operations import commands
from infra.operations.jobs import Report
from infra.read_models.checkpoints import logs_of
from infra.read_models.comparison import BuildPair, Difference, compare_builds
from infra.read_models.versions import read_versions
from infra.redis.connections import RedisClient, connect
from infra.settings import Settings
from projections.versions import Build, NoSuchBuildError
from readapi.ports.errors import StateConflictError

DIFFERENCES_SHOWN = 100
"""Highest number of differences that are shown."""

SHOWN_BYTES = 1_000_000
"""Number of bytes of JSON after which no further difference is shown. A difference may be a whole row."""


def builds_to_compare(client: RedisClient, name: str) -> BuildPair:
    """Return the live build and the build under way or, if no build is under way, the previous and the live build.

    Raises:
        StateConflictError: The build under way has not caught up with the logs.
        NotFoldableError: No running worker can fold the build under way.
        NoSuchBuildError: There is only one build.
    """
    versions = read_versions(client, [name])[name]
    live, building, previous = versions.live, versions.building, versions.previous
    if live and building:
        if not commands.has_caught_up(client, name, building):
            raise not_caught_up(name, building)
        return BuildPair(live, building)
    if live and previous:
        return BuildPair(previous, live)
    raise NoSuchBuildError(f"There is no other build with which the live build of {name} can be compared.")


def not_caught_up(name: str, build: Build) -> StateConflictError:
    """Create the error for a build that has not caught up with the logs."""
    return StateConflictError(
        "not-caught-up", f"Build {build} of {name} has not caught up with the logs. Try again when it has."
    )


def compare(settings: Settings, options: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Compare two builds. This is the work of a job.

    Args:
        settings: The settings, which name Redis.
        options: ``name`` of the read model, and the builds ``old`` and ``new``.
        report: A function that is told the progress.

    Returns:
        ``count`` of all differences, and the first of them in ``differences``.

    Raises:
        NotComparableError: The builds do not reach a common position.
    """
    name, builds = options["name"], BuildPair(*(Build.parse(options[each]) for each in ("old", "new")))
    with connect(redis_url(settings)) as client:
        first, count = first_differences(client, name, builds, lambda done, total: report("rows", done, total))
    return {"count": count, "differences": [difference._asdict() for difference in first]}


def first_differences(
    client: RedisClient, name: str, builds: BuildPair, progress: Callable[[int, int], None]
) -> tuple[list[Difference], int]:
    """Return the first differences between two builds, and the number of all differences.

    Args:
        client: The Redis server that holds the read models.
        name: The name of the read model.
        builds: The two builds.
        progress: Called with the number of compared rows and the number of all rows.

    Raises:
        NotComparableError: The builds do not reach a common position.
    """
    differences = compare_builds(client, name, logs_of(client, name), builds, progress=progress)
    shown = list(_shown(differences))
    return shown, len(shown) + sum(1 for _ in differences)


def _shown(differences: Iterator[Difference]) -> Iterator[Difference]:
    size = 0
    for number, difference in enumerate(differences, 1):
        yield difference
        size += len(orjson.dumps(difference._asdict()))
        if number >= DIFFERENCES_SHOWN or size >= SHOWN_BYTES:
            return
