"""The code that running workers announce, and the commands that depend on it, on a real Valkey."""

from dataclasses import replace
from threading import Event

import pytest
from redis import Redis

from infra.operations import commands
from infra.operations.foldability import check_builder
from infra.projecting.running_code import RunningCode, announce_code, read_running_code, withdraw_code
from infra.projecting.worker import Worker
from infra.projecting.worker_options import WorkerOptions
from infra.read_models.keys import fingerprints_key, running_code_key
from infra.read_models.versions import change_versions, read_versions, store_builders
from projections.fingerprint import ProjectionCode
from projections.patterns import ActivePatterns
from projections.versions import Build, Versions
from readapi.ports.errors import NotFoldableError
from tests.logs import open_directory
from tests.processes.roles import wait_until

OLD, NEW = ProjectionCode("patterns", 1, "a" * 16), ProjectionCode("patterns", 2, "b" * 16)


class FirstPatterns(ActivePatterns):
    """The first version of the projection, whatever the present one is."""

    version = 1


class NextPatterns(ActivePatterns):
    """The next version of the projection."""

    version = 2


def running(redis: Redis) -> RunningCode:
    return read_running_code(redis, ["patterns"])["patterns"]


def versions(redis: Redis) -> Versions:
    return read_versions(redis, ["patterns"])["patterns"]


def worker_of(redis: Redis, *former: ActivePatterns, current: ActivePatterns) -> Worker:
    return Worker(redis, "worker", {"patterns": current}, open_directory(redis, 1), WorkerOptions(5, 10), former)


def test_each_read_model_has_the_code_that_its_workers_announce(redis: Redis) -> None:
    other = OLD._replace(read_model="backtests")
    announce_code(redis, "host 1-7", [OLD, NEW, other], 60)
    announce_code(redis, "host 2-7", [NEW], 60)
    announce_code(redis, "host 2-7", [NEW], 60)
    assert read_running_code(redis, ["patterns", "backtests", "symbols"]) == {
        "patterns": {OLD: ["host 1-7"], NEW: ["host 1-7", "host 2-7"]},
        "backtests": {other: ["host 1-7"]},
        "symbols": {},
    }
    withdraw_code(redis, "host 1-7", [OLD, NEW, other])
    assert running(redis) == {NEW: ["host 2-7"]}


def test_the_announcement_of_a_dead_worker_expires(redis: Redis) -> None:
    """It expires by the clock of the server, and the next announcement removes it."""
    announce_code(redis, "dead", [OLD], 0.2)
    assert OLD in running(redis)
    wait_until(lambda: not running(redis), "the announcement has expired")
    announce_code(redis, "alive", [NEW], 60)
    assert redis.zcard(running_code_key("patterns")) == 1


def test_a_worker_announces_current_and_former_code_until_it_stops(redis: Redis) -> None:
    stopped = Event()
    stopped.set()
    worker = worker_of(redis, FirstPatterns(), current=NextPatterns())
    worker.run_round()
    assert set(running(redis)) == {ProjectionCode.of(FirstPatterns()), ProjectionCode.of(NextPatterns())}
    # The worker folds only the build of version 2, and so it stores only this fingerprint.
    assert redis.hkeys(fingerprints_key("patterns")) == [b"2"]
    worker.run(stopped)
    assert running(redis) == {}


def test_a_worker_makes_no_build_live_that_it_cannot_fold(redis: Redis) -> None:
    """The workers of the new release have stopped after their build has caught up."""
    worker = worker_of(redis, current=FirstPatterns())
    stopped = Event()
    stopped.set()
    try:
        worker.run_round()
        change_versions(redis, "patterns", lambda before: before.deployed(2))
        worker.run_round()
        assert (versions(redis).live, versions(redis).building) == (Build(1, 1), Build(2, 2))
        change_versions(redis, "patterns", lambda before: replace(before, building=Build(1, 3), built=3))
        worker.run_round()
        assert (versions(redis).live, versions(redis).building) == (Build(1, 3), None)
    finally:
        worker.run(stopped)


def test_a_worker_of_an_old_release_leaves_the_fingerprints_alone(redis: Redis) -> None:
    """Version 2 is live and version 1 has no build any more."""
    change_versions(redis, "patterns", lambda _: Versions(live=Build(2, 2), built=2))
    worker = worker_of(redis, current=FirstPatterns())
    worker.run_round()
    assert not redis.exists(fingerprints_key("patterns"))


def replay(redis: Redis, code: ProjectionCode) -> Versions:
    return commands.replay(redis, code, held=False, throttle=0)


@pytest.mark.parametrize(
    ("carried", "advice"),
    [
        ((), "no worker is running. Start a worker of this code"),
        ((OLD,), "the running workers carry version 1 .fingerprint a+.. Start a worker of this code"),
        (
            (OLD, NEW._replace(fingerprint="c" * 16)),
            "version 1 .fingerprint a+., version 2 .fingerprint c+.. The projection has changed: raise its version",
        ),
    ],
)
def test_a_replay_of_code_that_no_worker_carries_is_refused(
    redis: Redis, carried: tuple[ProjectionCode, ...], advice: str
) -> None:
    before = change_versions(redis, "patterns", lambda versions: versions.deployed(1))
    announce_code(redis, "worker", carried, 60)
    with pytest.raises(NotFoldableError, match=f"This code has version 2 of patterns .fingerprint b+., but .*{advice}"):
        replay(redis, NEW)
    assert versions(redis) == before


def test_a_replay_from_old_code_builds_the_live_version_if_a_worker_can_fold_it(redis: Redis) -> None:
    """A replay never goes back to the version of an old API process."""
    live = change_versions(redis, "patterns", lambda _: Versions(live=Build(2, 2), previous=Build(1, 1), built=2))
    announce_code(redis, "old", [OLD], 60)
    with pytest.raises(NotFoldableError, match=r"No running worker can fold build 2.3 of patterns"):
        replay(redis, OLD)
    assert versions(redis) == live
    announce_code(redis, "new", [NEW], 60)
    assert replay(redis, OLD).building == Build(2, 3)


def test_a_rollback_and_a_switch_need_a_worker_that_can_fold_the_build(redis: Redis) -> None:
    builds = Versions(live=Build(2, 2), previous=Build(1, 1), building=Build(2, 3), held=True, built=3)
    change_versions(redis, "patterns", lambda _: builds)
    with pytest.raises(NotFoldableError, match=r"can fold build 1.1 of patterns: no worker is running"):
        commands.rollback(redis, "patterns")
    with pytest.raises(NotFoldableError, match=r"can fold build 2.3 of patterns: no worker is running"):
        commands.switch(redis, "patterns", Build(2, 3))
    announce_code(redis, "new", [NEW], 60)
    with pytest.raises(NotFoldableError, match=r"can fold build 1.1 of patterns: the running workers carry version 2"):
        commands.rollback(redis, "patterns")
    assert versions(redis) == builds
    announce_code(redis, "old", [OLD], 60)
    assert commands.rollback(redis, "patterns").live == Build(1, 1)
    commands.switch(redis, "patterns", Build(2, 3))
    assert versions(redis).live == Build(2, 3)


def test_a_command_folds_in_its_own_process_only_with_the_code_of_an_existing_version(redis: Redis) -> None:
    store_builders(redis, [OLD, NEW])
    change_versions(redis, "patterns", lambda versions: versions.deployed(1))
    check_builder(redis, OLD)
    with pytest.raises(NotFoldableError, match=r"no build has this version and no worker is running"):
        check_builder(redis, NEW)
    with pytest.raises(NotFoldableError, match=r"built by code with the fingerprint a+. .*raise its version"):
        check_builder(redis, OLD._replace(fingerprint="c" * 16))
