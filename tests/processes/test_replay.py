"""Replays by real processes: rolling deploys, killed workers, rollbacks, and comparisons before the switch."""

import random
import signal
import time
from dataclasses import replace
from itertools import pairwise
from tempfile import TemporaryFile

import orjson
from redis import Redis

from domain.codec import decode
from domain.events import Event, PatternDetected
from infra.log.event_log import EventLog
from infra.projecting.projector_thread import THROTTLED_STEPS_PER_SECOND
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import change_versions, read_versions
from projections.base import ENDS_INDEX
from projections.patterns import ActivePatterns
from projections.ports import Segment
from projections.versions import Build, Versions
from tests.oracles.read_models import ReadModelContent, expected_patterns
from tests.processes.histories import LOGS, append, events_by_log, random_history
from tests.processes.release import (
    FIRST_BUILD,
    NEXT_BUILD,
    PRESENT_VERSION,
    SECOND_BUILD,
    running_release,
    start_release,
)
from tests.processes.roles import running_role, tickview, tickview_json, wait_until
from tests.read_model import assert_same_content, load_segment

FAST = {"lease_seconds": 1.5}
"""Settings with which a worker soon replaces a killed one."""


def versions(redis: Redis) -> Versions:
    return read_versions(redis, ["patterns"])["patterns"]


def keys_of(build: Build, log: str) -> SegmentKeys:
    return SegmentKeys(Segment("patterns", build, log))


def at_the_head(redis: Redis, build: Build) -> bool:
    """Check that a build has every event of its logs, and that the expirer has nothing to append."""
    live = versions(redis).live or build
    due = sum(redis.zcount(keys_of(live, log).index(ENDS_INDEX), "-inf", time.time()) for log in LOGS)
    heads = [EventLog(redis, log).head() for log in LOGS]
    return not due and heads == [int(redis.hget(keys_of(build, log).state, "checkpoint") or 0) for log in LOGS]


def recorded_events(redis: Redis, log: str) -> list[Event]:
    entries = EventLog(redis, log).read(0, 100_000)
    return [decode(entry.topic, entry.event_id, entry.state) for entry in entries]


def assert_build_equals_oracle(redis: Redis, build: Build) -> None:
    rows = 0
    for log in LOGS:
        model = load_segment(redis, ActivePatterns(), log, build)
        assert_same_content(model, expected_patterns(recorded_events(redis, log)))
        rows += len(model.rows)
    assert rows > 10


def rounded_confidences(events: list[Event]) -> dict[str, float]:
    """Return the confidences of the rows of the next version."""
    model: ReadModelContent = expected_patterns(events)
    return {key: round(row["confidence"], 1) for key, row in model.rows.items()}


def without_expiry(history: list[Event]) -> list[Event]:
    """Remove the time of expiry from all detections, so that the expirer appends nothing."""
    return [
        event.model_copy(update={"expires_at": None}) if isinstance(event, PatternDetected) else event
        for event in history
    ]


def test_deploy_builds_and_switches_and_its_rollback_loses_no_event(redis: Redis, redis_url: str) -> None:
    """Old and new code run at once. The previous build stays current."""
    history = without_expiry(random_history(1_500, seed=3))
    append(redis, history[:1_000])
    with running_release("1", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is current")
        with running_release("2", "former", redis_url=redis_url, **FAST):
            wait_until(lambda: versions(redis).live == NEXT_BUILD, "the next version is live")
            assert versions(redis).previous == FIRST_BUILD
        assert versions(redis).live == NEXT_BUILD
    with running_release("2", "former", redis_url=redis_url, **FAST):
        append(redis, history[1_000:])
        wait_until(
            lambda: at_the_head(redis, NEXT_BUILD) and at_the_head(redis, FIRST_BUILD), "both builds are current"
        )
        for log in LOGS:
            rows = load_segment(redis, ActivePatterns(), log, NEXT_BUILD).rows
            assert {key: row["confidence"] for key, row in rows.items()} == rounded_confidences(
                recorded_events(redis, log)
            )
        rollback = tickview_json("rollback", "patterns", redis_url=redis_url)
        assert rollback == {"name": "patterns", "live": str(FIRST_BUILD), "previous": str(NEXT_BUILD)}
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the previous build is current")
        assert_build_equals_oracle(redis, FIRST_BUILD)
        assert versions(redis).live == FIRST_BUILD


def test_replay_by_repeatedly_killed_workers_builds_the_expected_rows(redis: Redis, redis_url: str) -> None:
    history = random_history(2_500, seed=4)
    append(redis, history)
    with running_release("1", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is current")
    change_versions(redis, "patterns", lambda stored: stored.replayed(PRESENT_VERSION, held=False, throttle=0))
    chance = random.Random(4)
    log = max(LOGS, key=lambda log: len(events_by_log(history)[log]))

    def checkpoint() -> int:
        return int(redis.hget(keys_of(SECOND_BUILD, log).state, "checkpoint") or 0)

    checkpoints = []
    for _ in range(4):
        worker = start_release("1", redis_url=redis_url, **FAST, fold_batch=3)
        target = checkpoint() + chance.randrange(10, 80)
        wait_until(lambda target=target: checkpoint() >= target, "the worker makes progress")
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        checkpoints.append(checkpoint())
    assert checkpoints == sorted(checkpoints)
    assert versions(redis).live == FIRST_BUILD
    with running_release("1", redis_url=redis_url, **FAST):
        wait_until(lambda: versions(redis).live == SECOND_BUILD, "the replay is live")
        wait_until(lambda: at_the_head(redis, SECOND_BUILD), "the replay is current")
        assert_build_equals_oracle(redis, SECOND_BUILD)


def test_replay_command_builds_without_a_worker(redis: Redis, redis_url: str) -> None:
    append(redis, random_history(600, seed=5))
    with running_release("1", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is current")
    result = tickview_json("replay", "patterns", "--verify", redis_url=redis_url, **FAST)
    assert result == {"name": "patterns", "build": str(SECOND_BUILD), "live": True, "differences": 0, "rows": []}
    assert_build_equals_oracle(redis, SECOND_BUILD)


def test_difference_of_a_row_stops_the_switch_until_it_is_expected(redis: Redis, redis_url: str) -> None:
    """One row of the live build does not match its events. The comparison finds exactly this row."""
    append(redis, without_expiry(random_history(800, seed=6)))
    with running_role("project", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is current")
        keys = next(keys for keys in (keys_of(FIRST_BUILD, log) for log in LOGS) if redis.hlen(keys.rows))
        name, document = next(iter(redis.hscan_iter(keys.rows)))
        row = orjson.loads(document)
        redis.hset(keys.rows, name, orjson.dumps({**row, "current_price": 4_711.0}))
        comparison = tickview("replay", "patterns", "--verify", "--json", redis_url=redis_url)
        assert comparison.returncode == 3, comparison.stderr
        result = orjson.loads(comparison.stdout)
        [difference] = result["rows"]
        assert (result["live"], result["differences"]) == (False, 1)
        assert (difference["key"], difference["field"], difference["old"]) == (name.decode(), "current_price", 4_711.0)
        assert difference["new"] == row["current_price"]
        assert versions(redis).live == FIRST_BUILD
        switch = tickview_json("replay", "patterns", "--expect-changes", redis_url=redis_url)
        assert switch["build"] == result["build"]
        assert versions(redis).live == SECOND_BUILD


def test_throttled_replay_folds_in_small_steps(redis: Redis, redis_url: str) -> None:
    append(redis, random_history(400, seed=8))
    with running_role("project", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is current")
        tickview_json("replay", "patterns", "--throttle", "200", redis_url=redis_url)
    for log in LOGS:
        entries = redis.xrange(keys_of(SECOND_BUILD, log).changes)
        positions = [0, *(int(identity.split(b"-")[0]) for identity, _ in entries)]
        assert positions[-1] > 40
        assert max(after - before for before, after in pairwise(positions)) <= 200 / THROTTLED_STEPS_PER_SECOND


def test_replay_with_no_switch_keeps_the_live_build(redis: Redis, redis_url: str) -> None:
    append(redis, random_history(300, seed=7))
    with running_role("project", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is current")
        result = tickview_json("replay", "patterns", "--no-switch", redis_url=redis_url)
        assert result["live"] is False
        assert versions(redis) == replace(versions(redis), live=FIRST_BUILD, building=SECOND_BUILD, held=True)


def test_worker_refuses_changed_code_of_the_same_version(redis: Redis, redis_url: str) -> None:
    with running_release("1", redis_url=redis_url, **FAST):
        wait_until(lambda: versions(redis).live, "the present version has run")
    with TemporaryFile() as log:
        changed = start_release("changed", redis_url=redis_url, log=log, **FAST)
        assert changed.wait(timeout=30) != 0
        log.seek(0)
        errors = log.read()
    assert f"The projection patterns has changed, but it is still version {PRESENT_VERSION}".encode() in errors


def test_rollback_without_a_previous_build_is_refused(redis_url: str) -> None:
    rollback = tickview("rollback", "patterns", redis_url=redis_url)
    assert rollback.returncode == 1
    assert b"no previous build" in rollback.stderr
    assert b"Traceback" not in rollback.stderr
