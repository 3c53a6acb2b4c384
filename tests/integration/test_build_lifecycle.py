"""The life cycle of builds on a real Valkey: creation, replay, switch, removal and fingerprints."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from infra.processes.errors import StartupError
from infra.projecting import build_lifecycle
from infra.projecting.build_removal import remove_build
from infra.projecting.running_code import announce_code
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import change_versions, read_builders, read_versions, store_builders
from projections.fingerprint import ProjectionCode
from projections.patterns import ActivePatterns
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build, Versions

LOGS = ["market-0", "market-1"]
VERSION = ActivePatterns.version
LIVE, NEW = Build(VERSION, 1), Build(VERSION, 2)


def versions(redis: Redis) -> Versions:
    return read_versions(redis, ["patterns"])["patterns"]


def keys_of(build: Build, log: str) -> SegmentKeys:
    return SegmentKeys(Segment("patterns", build, log))


def begin_replay(redis: Redis, live: int, new: int, head: int = 5) -> None:
    """Create a live and a new build with these checkpoints on the first log. On the other log, both reach the head."""
    change_versions(
        redis, "patterns", lambda before: before.deployed(VERSION).replayed(VERSION, held=False, throttle=0)
    )
    for log in LOGS:
        EventLog(redis, log).append([NewEvent("symbol-AAPL", "t", b"{}") for _ in range(head)])
        redis.hset(keys_of(LIVE, log).state, "checkpoint", live if log == LOGS[0] else head)
        redis.hset(keys_of(NEW, log).state, "checkpoint", new if log == LOGS[0] else head)


def test_many_starting_workers_begin_one_build(redis: Redis) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: build_lifecycle.begin_builds(redis, READ_MODELS), range(16)))
    stored = read_versions(redis, READ_MODELS)
    first = {name: (Build(projection.version, 1), 1) for name, projection in READ_MODELS.items()}
    assert {name: (entry.live, entry.built) for name, entry in stored.items()} == first


def test_concurrent_replay_commands_begin_one_build(redis: Redis) -> None:
    build_lifecycle.begin_builds(redis, READ_MODELS)

    def replay(_: int) -> Versions:
        return change_versions(redis, "patterns", lambda before: before.replayed(VERSION, held=False, throttle=0))

    with ThreadPoolExecutor(8) as pool:
        assert {after.building for after in pool.map(replay, range(16))} == {NEW}


@pytest.mark.parametrize(("live", "new", "switched"), [(5, 5, True), (4, 5, True), (5, 4, False), (0, 0, True)])
def test_a_build_goes_live_when_it_is_behind_on_no_log(redis: Redis, live: int, new: int, switched: bool) -> None:
    begin_replay(redis, live, new)
    after = build_lifecycle.switch_if_caught_up(redis, "patterns", versions(redis), LOGS)
    assert (after.live == NEW) is switched
    assert after == versions(redis)


def test_a_build_far_from_the_head_does_not_go_live(redis: Redis) -> None:
    """The live build, which no worker folds, has the same checkpoint."""
    begin_replay(redis, 0, 0, head=build_lifecycle.CATCH_UP_EVENTS + 1)
    assert build_lifecycle.switch_if_caught_up(redis, "patterns", versions(redis), LOGS).live == LIVE


def test_a_held_build_does_not_go_live(redis: Redis) -> None:
    begin_replay(redis, 5, 5)
    change_versions(redis, "patterns", lambda before: before.replayed(VERSION, held=True, throttle=0))
    assert build_lifecycle.switch_if_caught_up(redis, "patterns", versions(redis), LOGS).live == LIVE


def test_a_dropped_build_is_removed_completely_and_alone(redis: Redis) -> None:
    change_versions(redis, "patterns", lambda _: Versions(live=Build(VERSION + 1, 2), dropping=(LIVE,), built=2))
    old, new = ProjectionCode("patterns", VERSION, "old"), ProjectionCode("patterns", VERSION + 1, "new")
    store_builders(redis, [old, new])
    for log in LOGS:
        for build in (LIVE, Build(VERSION + 1, 2), Build(VERSION, 10)):
            keys = keys_of(build, log)
            with redis.pipeline(transaction=False) as pipeline:
                for number in range(1_500):
                    pipeline.zadd(keys.index("symbol", f"S{number}"), {"a": 1})
                pipeline.execute()
    remove_build(redis, "patterns", LIVE, LOGS)
    assert not list(redis.scan_iter(keys_of(LIVE, "*").prefix.replace("{", "?").replace("}", "?") + "*"))
    remaining = [
        sum(1 for _ in redis.scan_iter(keys_of(build, LOGS[0]).prefix + "*"))
        for build in (Build(VERSION + 1, 2), Build(VERSION, 10))
    ]
    assert remaining == [1_500, 1_500]
    assert versions(redis).dropping == ()
    assert read_builders(redis, [old, new]) == [None, new]


def test_of_two_workers_with_different_code_of_one_version_the_first_folds(redis: Redis) -> None:
    """Both have started before one of them folds. The check at the start stores nothing."""
    code = ProjectionCode.of(ActivePatterns())
    changed = code._replace(fingerprint="0" * 16)
    for starting in (code, changed):
        build_lifecycle.check_code(redis, [starting])
    assert read_builders(redis, [code]) == [None]
    build_lifecycle.claim_builds(redis, [changed])
    for refusal in (build_lifecycle.check_code, build_lifecycle.claim_builds):
        with pytest.raises(StartupError, match=f"still version {VERSION} .fingerprint {code.fingerprint}, was 0000"):
            refusal(redis, [code])
    assert read_builders(redis, [code]) == [changed]


def test_a_worker_is_refused_if_other_code_of_its_version_runs_idle(redis: Redis) -> None:
    """The other worker builds nothing, because a later version is live: no fingerprint of it is stored."""
    code = ProjectionCode.of(ActivePatterns())
    announce_code(redis, "idle", [code._replace(fingerprint="0" * 16)], 60)
    with pytest.raises(StartupError, match=f"still version {VERSION} .fingerprint {code.fingerprint}, was 0000"):
        build_lifecycle.check_code(redis, [code])
