"""Replays by real processes: rolling deploys, kills at any point, a way back, and a comparison before the switch."""

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
from projections.patterns import ActivePatterns
from projections.ports import Segment
from projections.versions import Build, Versions
from tests.oracles.read_models import ReadModelContent, expected_patterns
from tests.processes.histories import LOGS, append, events_by_log, random_history
from tests.processes.release import running_release, start_release
from tests.processes.roles import running_role, tickview, wait_until
from tests.read_model import FIRST_BUILD, assert_same_content, load_segment

FAST = {"lease_seconds": 0.4}


def versions(redis: Redis) -> Versions:
    return read_versions(redis, ["patterns"])["patterns"]


def keys_of(build: Build, log: str) -> SegmentKeys:
    return SegmentKeys(Segment("patterns", build, log))


def at_the_head(redis: Redis, build: Build) -> bool:
    """Folded to the end, and nothing due to expire, so that no event will follow by itself."""
    live = versions(redis).live or build
    due = sum(redis.zcount(keys_of(live, log).index("expiry"), "-inf", time.time()) for log in LOGS)
    heads = [EventLog(redis, log).head() for log in LOGS]
    return not due and heads == [int(redis.hget(keys_of(build, log).state, "checkpoint") or 0) for log in LOGS]


def recorded(redis: Redis, log: str) -> list[Event]:
    entries = EventLog(redis, log).read(0, 100_000)
    return [decode(entry.topic, entry.event_id, entry.state) for entry in entries]


def assert_build_equals_oracle(redis: Redis, build: Build) -> None:
    rows = 0
    for log in LOGS:
        model = load_segment(redis, ActivePatterns(), log, build)
        assert_same_content(model, expected_patterns(recorded(redis, log)))
        rows += len(model.rows)
    assert rows > 10


def rounded(events: list[Event]) -> dict[str, float]:
    """The confidences that version 2 keeps."""
    model: ReadModelContent = expected_patterns(events)
    return {key: round(row["confidence"], 1) for key, row in model.rows.items()}


def lasting(history: list[Event]) -> list[Event]:
    """The history, with detections that do not elapse."""
    return [
        event.model_copy(update={"expires_at": None}) if isinstance(event, PatternDetected) else event
        for event in history
    ]


def test_a_deploy_builds_switches_and_can_be_rolled_back(redis: Redis, redis_url: str) -> None:
    """Old and new code run at once; the former build stays current, and the way back loses no event."""
    history = lasting(random_history(1_500, seed=3))
    append(redis, history[:1_000])
    with running_release("1", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "version 1 is built")
        with running_release("2", "former", redis_url=redis_url, **FAST):
            wait_until(lambda: versions(redis).live == Build(2, 2), "version 2 is live")
            assert versions(redis).previous == FIRST_BUILD
        assert versions(redis).live == Build(2, 2)
    with running_release("2", "former", redis_url=redis_url, **FAST):
        append(redis, history[1_000:])
        wait_until(lambda: at_the_head(redis, Build(2, 2)) and at_the_head(redis, FIRST_BUILD), "both are current")
        for log in LOGS:
            rows = load_segment(redis, ActivePatterns(), log, Build(2, 2)).rows
            assert {key: row["confidence"] for key, row in rows.items()} == rounded(recorded(redis, log))
        answer = tickview("rollback", "patterns", "--json", redis_url=redis_url)
        assert orjson.loads(answer.stdout) == {"name": "patterns", "live": "1.1", "previous": "2.2"}
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the former build is current")
        assert_build_equals_oracle(redis, FIRST_BUILD)
        assert versions(redis).live == FIRST_BUILD


def test_killed_again_and_again_a_replay_goes_on_and_ends_right(redis: Redis, redis_url: str) -> None:
    history = random_history(2_500, seed=4)
    append(redis, history)
    with running_release("1", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is done")
    change_versions(redis, "patterns", lambda found: found.replayed(1, held=False, throttle=0))
    chance = random.Random(4)
    log = max(LOGS, key=lambda one: len(events_by_log(history)[one]))

    def checkpoint() -> int:
        return int(redis.hget(keys_of(Build(1, 2), log).state, "checkpoint") or 0)

    reached = []
    for _ in range(4):
        worker = start_release("1", redis_url=redis_url, **FAST, fold_batch=3)
        target = checkpoint() + chance.randrange(10, 80)
        wait_until(lambda target=target: checkpoint() >= target, "some progress")
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        reached.append(checkpoint())
    assert reached == sorted(reached)
    assert versions(redis).live == FIRST_BUILD
    with running_release("1", redis_url=redis_url, **FAST):
        wait_until(lambda: versions(redis).live == Build(1, 2), "the replay is live")
        wait_until(lambda: at_the_head(redis, Build(1, 2)), "it is current")
        assert_build_equals_oracle(redis, Build(1, 2))


def test_replay_by_hand_without_a_worker(redis: Redis, redis_url: str) -> None:
    append(redis, random_history(600, seed=5))
    with running_release("1", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is done")
    answer = tickview("replay", "patterns", "--verify", "--json", redis_url=redis_url, **FAST)
    assert answer.returncode == 0, answer.stderr
    told = orjson.loads(answer.stdout)
    assert told == {"name": "patterns", "build": "1.2", "live": True, "differences": 0, "rows": []}
    assert_build_equals_oracle(redis, Build(1, 2))


def test_differences_stop_the_switch_until_they_are_expected(redis: Redis, redis_url: str) -> None:
    """A row of the live build is not what its events say; the comparison finds just that row."""
    append(redis, lasting(random_history(800, seed=6)))
    with running_role("project", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is done")
        keys = next(keys for keys in (keys_of(FIRST_BUILD, log) for log in LOGS) if redis.hlen(keys.rows))
        name, document = next(iter(redis.hscan_iter(keys.rows)))
        row = orjson.loads(document)
        redis.hset(keys.rows, name, orjson.dumps({**row, "current_price": 4_711.0}))
        found = tickview("replay", "patterns", "--verify", "--json", redis_url=redis_url)
        assert found.returncode == 3, found.stderr
        told = orjson.loads(found.stdout)
        [difference] = told["rows"]
        assert (told["live"], told["differences"]) == (False, 1)
        assert (difference["key"], difference["field"], difference["old"]) == (name.decode(), "current_price", 4_711.0)
        assert difference["new"] == row["current_price"]
        assert versions(redis).live == FIRST_BUILD
        again = tickview("replay", "patterns", "--expect-changes", "--json", redis_url=redis_url)
        assert again.returncode == 0, again.stderr
        assert orjson.loads(again.stdout)["build"] == told["build"]
        assert versions(redis).live == Build(1, 2)


def test_a_throttled_replay_goes_in_small_steps(redis: Redis, redis_url: str) -> None:
    append(redis, random_history(400, seed=8))
    with running_role("project", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is done")
        answer = tickview("replay", "patterns", "--throttle", "200", "--json", redis_url=redis_url)
        assert answer.returncode == 0, answer.stderr
    for log in LOGS:
        entries = redis.xrange(keys_of(Build(1, 2), log).changes)
        positions = [0, *(int(identity.split(b"-")[0]) for identity, _ in entries)]
        assert positions[-1] > 40
        assert max(after - before for before, after in pairwise(positions)) <= 200 / THROTTLED_STEPS_PER_SECOND


def test_no_switch_leaves_the_live_one_live(redis: Redis, redis_url: str) -> None:
    append(redis, random_history(300, seed=7))
    with running_role("project", redis_url=redis_url, **FAST):
        wait_until(lambda: at_the_head(redis, FIRST_BUILD), "the first build is done")
        answer = tickview("replay", "patterns", "--no-switch", "--json", redis_url=redis_url)
        assert orjson.loads(answer.stdout)["live"] is False
        assert versions(redis) == replace(versions(redis), live=FIRST_BUILD, building=Build(1, 2), held=True)


def test_changed_code_under_an_old_version_is_refused(redis: Redis, redis_url: str) -> None:
    with running_release("1", redis_url=redis_url, **FAST):
        wait_until(lambda: versions(redis).live, "version 1 has run")
    with TemporaryFile() as log:
        changed = start_release("changed", redis_url=redis_url, log=log, **FAST)
        assert changed.wait(timeout=30) != 0
        log.seek(0)
        errors = log.read()
    assert b"The projection patterns has changed, but it is still version 1" in errors


def test_without_a_way_back_rollback_says_so(redis_url: str) -> None:
    answer = tickview("rollback", "patterns", redis_url=redis_url)
    assert answer.returncode == 1
    assert b"no previous build" in answer.stderr
    assert b"Traceback" not in answer.stderr
