"""Commands from other code than that of the running workers, on real processes: nothing that nobody folds goes live.

``release.py`` has the releases: ``1`` is the present code, ``2`` is the next version, and ``changed`` is changed code
with an unchanged version.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import orjson
import pytest
from redis import Redis

from domain.events import PatternDetected
from infra.log.event_log import EventLog
from infra.projecting.running_code import read_running_code
from infra.read_models.keys import SegmentKeys, fingerprints_key
from infra.read_models.versions import change_versions, read_versions
from projections.fingerprint import ProjectionCode
from projections.ports import Segment
from projections.versions import Versions
from tests.processes.api_service import api, read_model_state
from tests.processes.fork_server import ForkedProcess
from tests.processes.histories import LOGS, append, random_history
from tests.processes.release import (
    FIRST_BUILD,
    NEXT_BUILD,
    NEXT_VERSION,
    PRESENT_VERSION,
    RELEASES,
    REPLAYED_NEXT_BUILD,
    SECOND_BUILD,
    running_release,
    start_release,
    tickview_of,
)
from tests.processes.roles import running_role, start, tickview, tickview_json, wait_until

LEASE = {"lease_seconds": 1.5}
"""A departed worker disappears within this time."""

CODES = {release: ProjectionCode.of(projection()) for release, projection in RELEASES.items()}


def versions(redis: Redis) -> Versions:
    return read_versions(redis, ["patterns"])["patterns"]


def announced(redis: Redis) -> set[ProjectionCode]:
    return set(read_running_code(redis, ["patterns"])["patterns"])


def has_folded_all(redis: Redis) -> bool:
    """Return whether the live build of patterns has folded all events."""
    keys = {log: SegmentKeys(Segment("patterns", FIRST_BUILD, log)) for log in LOGS}
    return all(int(redis.hget(keys[log].state, "checkpoint") or 0) == EventLog(redis, log).head() for log in LOGS)


@contextmanager
def old_worker(redis: Redis, redis_url: str, release: str = "1") -> Iterator[ForkedProcess]:
    """Run a worker of the old release, which has built the live build."""
    append(redis, random_history(200, seed=11))
    with running_release(release, redis_url=redis_url, **LEASE) as worker:
        wait_until(lambda: versions(redis).live == FIRST_BUILD, "the old worker has begun a build")
        yield worker


def refusal(release: str, *arguments: str, redis_url: str) -> str:
    """Run a command that must be refused in one line. Return the line."""
    completed = tickview_of(release, *arguments, redis_url=redis_url, **LEASE)
    assert (completed.returncode, completed.stdout) == (1, b""), completed
    [line] = completed.stderr.decode().splitlines()
    return line


@pytest.mark.parametrize("options", [["--expect-changes"], ["--verify"], ["--no-switch"], []])
def test_a_replay_of_a_version_that_only_the_command_has_is_refused(
    redis: Redis, redis_url: str, options: list[str]
) -> None:
    with old_worker(redis, redis_url):
        line = refusal("2", "replay", "patterns", *options, redis_url=redis_url)
        assert f"This code has version {NEXT_VERSION} of patterns (fingerprint {CODES['2'].fingerprint})" in line
        assert f"the running workers carry version {PRESENT_VERSION} (fingerprint {CODES['1'].fingerprint})" in line
        assert "Start a worker of this code (`tickview project`)" in line
        assert versions(redis) == Versions(live=FIRST_BUILD, built=1)
        assert redis.hkeys(fingerprints_key("patterns")) == [str(PRESENT_VERSION).encode()]


def test_a_replay_of_changed_code_with_an_unchanged_version_is_refused(redis: Redis, redis_url: str) -> None:
    """The old workers would build with their code, and no row would differ."""
    with old_worker(redis, redis_url):
        line = refusal("changed", "replay", "patterns", "--verify", redis_url=redis_url)
        assert f"version {PRESENT_VERSION} of patterns (fingerprint {CODES['changed'].fingerprint})" in line
        assert f"carry version {PRESENT_VERSION} (fingerprint {CODES['1'].fingerprint})" in line
        assert "The projection has changed: raise its version" in line
        assert versions(redis) == Versions(live=FIRST_BUILD, built=1)
    line = refusal("changed", "replay", "patterns", "--verify", redis_url=redis_url)
    assert f"built by code with the fingerprint {CODES['1'].fingerprint}" in line
    assert "raise its version" in line
    assert versions(redis) == Versions(live=FIRST_BUILD, built=1)


def test_a_refused_replay_without_workers_leaves_the_fingerprint_to_the_workers(redis: Redis, redis_url: str) -> None:
    """Otherwise a draft of the next version on a developer's machine would lock out the released next version."""
    with old_worker(redis, redis_url):
        pass
    line = refusal("2", "replay", "patterns", "--expect-changes", redis_url=redis_url)
    assert "no build has this version and no worker is running" in line
    assert redis.hgetall(fingerprints_key("patterns")) == {
        str(PRESENT_VERSION).encode(): CODES["1"].fingerprint.encode()
    }
    with running_release("2", redis_url=redis_url, **LEASE):
        wait_until(lambda: versions(redis).live == NEXT_BUILD, "the released next version is live")
    assert redis.hget(fingerprints_key("patterns"), str(NEXT_VERSION)) == CODES["2"].fingerprint.encode()


def test_commands_during_a_rolling_deploy_start_what_a_worker_folds(redis: Redis, redis_url: str) -> None:
    with old_worker(redis, redis_url):
        with running_release("2", redis_url=redis_url, **LEASE):
            wait_until(lambda: versions(redis).live == NEXT_BUILD, "the new worker has switched by itself")
            assert announced(redis) == {CODES["1"], CODES["2"]}
            replay = tickview_of("2", "replay", "patterns", "--verify", redis_url=redis_url, **LEASE)
            assert replay.returncode == 0, replay.stderr
            assert (versions(redis).live, versions(redis).previous) == (REPLAYED_NEXT_BUILD, NEXT_BUILD)
            # A former version is not announced by the new workers, but the old workers still run.
            change_versions(
                redis, "patterns", lambda _: Versions(live=REPLAYED_NEXT_BUILD, previous=FIRST_BUILD, built=3)
            )
        wait_until(lambda: announced(redis) == {CODES["1"]}, "the new worker has stopped")
        assert tickview_json("rollback", "patterns", redis_url=redis_url)["live"] == str(FIRST_BUILD)
        line = refusal("2", "rollback", "patterns", redis_url=redis_url)
        assert f"No running worker can fold build {REPLAYED_NEXT_BUILD} of patterns: the running workers" in line
        assert f"carry version {PRESENT_VERSION}" in line
        assert f"Start a worker that carries version {NEXT_VERSION}" in line
        assert versions(redis).live == FIRST_BUILD
    line = refusal("1", "rollback", "patterns", redis_url=redis_url)
    assert f"No running worker can fold build {REPLAYED_NEXT_BUILD} of patterns: no worker is running" in line


def test_a_slow_worker_of_the_new_release_leaves_time_to_compare_before_the_switch(
    redis: Redis, redis_url: str
) -> None:
    """The command joins the build that the worker has begun, holds it, and folds it at full speed."""
    with old_worker(redis, redis_url), ExitStack() as stack:
        # The rows of the history expire, sooner or later. This row remains, and is different in the new release.
        detected = next(event for event in random_history(200, seed=11) if isinstance(event, PatternDetected))
        stays = {"event_id": "stays", "symbol": "STAYS", "confidence": 0.87, "expires_at": None}
        append(redis, [detected.model_copy(update=stays)])
        # Before that, a build that has folded nothing has caught up, too, so that the new worker would switch at once.
        wait_until(lambda: has_folded_all(redis), "the old worker has folded all events")
        stack.enter_context(running_release("2", redis_url=redis_url, replay_throttle=1, **LEASE))
        wait_until(lambda: versions(redis).building == NEXT_BUILD, "the new worker has begun its build")
        options = ("--json", "--throttle", "1000000")
        compared = tickview_of("2", "replay", "patterns", "--verify", *options, redis_url=redis_url, **LEASE)
        assert compared.returncode == 3, compared.stderr
        assert orjson.loads(compared.stdout)["differences"] > 0
        assert versions(redis).live == FIRST_BUILD
        switched = tickview_of("2", "replay", "patterns", "--expect-changes", redis_url=redis_url, **LEASE)
        assert switched.returncode == 0, switched.stderr
        assert versions(redis).live == NEXT_BUILD


def test_a_worker_with_former_code_announces_it_and_makes_the_rollback_possible(redis: Redis, redis_url: str) -> None:
    with old_worker(redis, redis_url), running_release("2", "former", redis_url=redis_url, **LEASE):
        wait_until(lambda: versions(redis).live == NEXT_BUILD, "the new worker has switched")
    with running_release("2", "former", redis_url=redis_url, **LEASE):
        wait_until(lambda: announced(redis) == {CODES["1"], CODES["2"]}, "the new worker carries both versions")
        rollback = tickview_of("2", "rollback", "patterns", redis_url=redis_url)
        assert rollback.returncode == 0, rollback.stderr
        assert versions(redis).live == FIRST_BUILD


def test_a_killed_worker_counts_as_running_for_the_time_of_its_lease(redis: Redis, redis_url: str) -> None:
    """After the deploy has failed, neither a command nor the old worker makes the build of the dead worker live."""
    with old_worker(redis, redis_url):
        dying = start_release("2", redis_url=redis_url, **LEASE)
        wait_until(lambda: CODES["2"] in announced(redis), "the new worker runs")
        wait_until(lambda: versions(redis).live == NEXT_BUILD, "the new version is live")
        assert tickview_json("rollback", "patterns", redis_url=redis_url)["live"] == str(FIRST_BUILD)
        dying.kill()
        wait_until(lambda: announced(redis) == {CODES["1"]}, "the dead worker does not count as running any more")
        line = refusal("1", "rollback", "patterns", redis_url=redis_url)
        assert f"No running worker can fold build {NEXT_BUILD}" in line
        assert f"carry version {PRESENT_VERSION}" in refusal("2", "replay", "patterns", redis_url=redis_url)
        assert versions(redis).live == FIRST_BUILD


def test_a_replay_ends_when_its_last_worker_dies(redis: Redis, redis_url: str) -> None:
    """The build stays under way, so that a later replay joins it."""
    with old_worker(redis, redis_url) as worker:
        arguments = ("replay", "patterns", "--throttle", "1", "--verify")
        command = start(*arguments, redis_url=redis_url, **LEASE)
        wait_until(lambda: versions(redis).building, "the build is under way")
        worker.kill()
        assert command.wait(timeout=30) == 1
        assert (versions(redis).live, versions(redis).building) == (FIRST_BUILD, SECOND_BUILD)


def test_the_api_refuses_commands_that_no_worker_can_fold(redis: Redis, redis_url: str) -> None:
    """The API process has release 1. Its answers are problem details with the reason."""
    with api(redis_url, **LEASE) as client:
        with old_worker(redis, redis_url), running_release("2", redis_url=redis_url, **LEASE):
            wait_until(lambda: versions(redis).live == NEXT_BUILD, "the new worker has switched")
        refused = client.post("/api/projections/patterns/replay")
        assert (refused.status_code, refused.headers["Content-Type"]) == (409, "application/problem+json")
        assert refused.json()["type"] == "urn:tickview:problem:not-foldable"
        assert "no worker is running. Start a worker of this code" in refused.json()["detail"]
        with running_release("2", redis_url=redis_url, **LEASE):
            wait_until(lambda: announced(redis) == {CODES["2"]}, "the new worker runs")
            refused = client.post("/api/projections/patterns/replay", json={"hold": True})
            assert refused.status_code == 409
            assert f"carry version {NEXT_VERSION} (fingerprint {CODES['2'].fingerprint})" in refused.json()["detail"]
            refused = client.post("/api/projections/patterns/rollback")
            assert (refused.status_code, refused.json()["type"]) == (409, "urn:tickview:problem:not-foldable")
            assert f"No running worker can fold build {FIRST_BUILD}" in refused.json()["detail"]
        assert versions(redis) == Versions(live=NEXT_BUILD, previous=FIRST_BUILD, built=2)


def test_a_live_read_model_that_no_worker_folds_is_unhealthy(redis: Redis, redis_url: str) -> None:
    """Workers of the old release run, but the new version is live. Then no worker runs at all."""

    def states(source: list[dict[str, object]]) -> dict[object, object]:
        return {model["name"]: model["folded"] for model in source}

    with api(redis_url, **LEASE) as client:

        def health() -> tuple[int, str]:
            response = client.get("/api/health")
            return response.status_code, response.json()["read_models"]["patterns"]["status"]

        with running_role("project", redis_url=redis_url, **LEASE):
            wait_until(
                lambda: set(states(client.get("/api/projections").json()["projections"]).values()) == {True},
                "the worker folds every read model",
            )
            wait_until(lambda: health() == (200, "healthy"), "the role project has a heartbeat")
            change_versions(redis, "patterns", lambda _: Versions(live=NEXT_BUILD, built=2))
            assert health() == (503, "unhealthy")
            components = client.get("/api/health").json()
            patterns = components["read_models"]["patterns"]
            assert (patterns["folded"], patterns["version"]) == (False, NEXT_VERSION)
            assert patterns["reasons"] == [
                f"no running worker can fold version {NEXT_VERSION}, which is live: start one that can"
            ]
            assert components["read_models"]["backtests"]["status"] == "healthy"
            assert client.get("/api/patterns/health").json()["folded"] is False
            discovery = client.get("/api/pattern-discovery/health")
            assert (discovery.status_code, discovery.json()["patterns"]) == (503, 0)
            assert read_model_state(client, "patterns")["folded"] is False
            for command in ("status", "projections"):
                models = states(tickview_json(command, redis_url=redis_url)["projections"])
                assert {name for name, folded in models.items() if not folded} == {"patterns"}
            assert tickview_json("projections", "patterns", redis_url=redis_url)["folded"] is False
            assert b"folded" in tickview("projections", redis_url=redis_url).stdout
            change_versions(redis, "patterns", lambda _: Versions(live=FIRST_BUILD, built=2))
            assert health() == (200, "healthy")
        assert health() == (503, "unhealthy")
        killed = start("project", redis_url=redis_url, **LEASE)
        wait_until(lambda: health() == (200, "healthy"), "a new worker folds")
        killed.kill()
        wait_until(lambda: health() == (503, "unhealthy"), "the dead worker does not count as running any more")


def test_the_releases_have_different_code() -> None:
    """The tests of this module rely on it."""
    assert len(set(CODES.values())) == len(RELEASES)
