"""Worker processes that are killed, stopped and continued: every event takes effect exactly once."""

import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import seed as fixed_seed
from redis import Redis

from domain.codec import decode, encode, topic_of
from domain.events import EVENT_TYPES, Event, PatternEvent
from domain.streams import log_of, market_logs
from infra.eventlog import EventLog, NewEvent
from infra.read_models.keys import SegmentKeys
from projections.ports import Segment
from projections.registry import READ_MODELS
from tests.oracles.folding import EXPECTED
from tests.processes.roles import running, start, stop, wait_until
from tests.read_model import assert_equal, stored
from tests.strategies import events as any_event

LOGS = market_logs(4)
LEASE_SECONDS = 0.5


def history_of(size: int, seed: int) -> list[Event]:
    """A long random history of the events that hypothesis' strategies draw, in every partition."""
    drawn: list[Event] = []

    @fixed_seed(seed)
    @settings(max_examples=200, phases=[Phase.generate], database=None, deadline=None)
    @given(any_event)
    def draw(event: Event) -> None:
        drawn.append(event)

    draw()
    chance = random.Random(seed)

    def moved(event: Event, number: int) -> Event:
        changes: dict[str, Any] = {"event_id": f"{seed}-{number}", "occurred_at": 1.7e9 + chance.random() * 1e6}
        if isinstance(event, PatternEvent):
            changes["symbol"] = f"{event.symbol}{chance.randrange(10)}"
        return event.model_copy(update=changes)

    history = [moved(chance.choice(drawn), number) for number in range(size)]
    assert all(len(events) > size / 20 for events in by_log(history).values())
    assert len({type(event) for event in history}) == len(EVENT_TYPES)
    return history


def by_log(history: list[Event]) -> dict[str, list[Event]]:
    split: dict[str, list[Event]] = {log: [] for log in LOGS}
    for event in history:
        split[log_of(event.stream, len(LOGS))].append(event)
    return split


def append(redis: Redis, history: list[Event]) -> None:
    for log, events in by_log(history).items():
        EventLog(redis, log).append(
            [NewEvent(event.stream, topic_of(type(event)), encode(event), event.event_id) for event in events]
        )


def keys_of(read_model: str, log: str) -> SegmentKeys:
    return SegmentKeys(Segment(read_model, READ_MODELS[read_model].version, log))


def state(redis: Redis, read_model: str, log: str, field: str) -> str:
    value = redis.hget(keys_of(read_model, log).state, field)
    return (value or b"0").decode()


def assert_folded(redis: Redis, history: list[Event]) -> None:
    """Wait until all segments are at the end of their logs, then compare everything with the oracle.

    The expirer adds events of its own; they are part of the history then.
    """

    def at_the_end() -> bool:
        due = sum(redis.zcount(keys_of("patterns", log).index("expiry"), "-inf", time.time()) for log in LOGS)
        heads = {log: EventLog(redis, log).head() for log in LOGS}
        return due == 0 and all(
            int(state(redis, name, log, "checkpoint")) == heads[log] for name in READ_MODELS for log in LOGS
        )

    wait_until(at_the_end, "all segments folded")
    for log in LOGS:
        entries = EventLog(redis, log).read(0, 100_000)
        recorded = [decode(entry.topic, entry.event_id, entry.state) for entry in entries]
        assert {event.event_id for event in by_log(history)[log]} <= {event.event_id for event in recorded}
        for name, projection in READ_MODELS.items():
            assert_equal(stored(redis, projection, log), EXPECTED[name](recorded))


def test_killed_and_stalled_workers(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """Four workers on four partitions; one is killed, one sleeps past its lease and wakes up."""
    history = history_of(4_000, seed=1)
    log = tmp_path / "stalled.log"
    with ExitStack() as stack:
        logs = [None, stack.enter_context(log.open("wb")), None, None]
        settings = {"redis_url": redis_url, "lease_seconds": LEASE_SECONDS, "fold_batch": 7}
        workers = [stack.enter_context(running("project", log=log, **settings)) for log in logs]
        append(redis, history[:1_000])
        killed, stalled, *_ = workers

        def owned_by(pid: int) -> list[tuple[str, str]]:
            return [(n, g) for n in READ_MODELS for g in LOGS if f"-{pid}-" in state(redis, n, g, "owner")]

        wait_until(lambda: all(owned_by(worker.pid) for worker in workers), "every worker has a segment")
        lost = owned_by(stalled.pid)
        epochs = {segment: int(state(redis, *segment, "epoch")) for segment in lost}
        stalled.send_signal(signal.SIGSTOP)
        killed.kill()
        append(redis, history[1_000:3_000])
        wait_until(
            lambda: all(int(state(redis, *segment, "epoch")) > epoch for segment, epoch in epochs.items()),
            "others have taken the sleeper's segments",
        )
        stalled.send_signal(signal.SIGCONT)
        append(redis, history[3_000:])
        assert_folded(redis, history)
        wait_until(lambda: b'"outcome": "not ours"' in log.read_bytes(), "the fence has refused the sleeper")


def test_kill_again_and_again(redis: Redis, redis_url: str) -> None:
    """One worker after the other is killed in the middle of its work."""
    history = history_of(3_000, seed=2)
    chance = random.Random(2)
    append(redis, history)
    for _ in range(4):
        worker = start("project", redis_url=redis_url, lease_seconds=0.3, fold_batch=5)
        before = int(state(redis, "activity", "market-1", "checkpoint"))
        target = before + chance.randrange(20, 120)
        wait_until(
            lambda target=target: int(state(redis, "activity", "market-1", "checkpoint")) >= target, "some progress"
        )
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    with running("project", redis_url=redis_url, lease_seconds=0.3):
        assert_folded(redis, history)


def test_a_worker_that_ends_gives_its_leases_back(redis: Redis, redis_url: str) -> None:
    """Its successor need not wait for the leases, here five minutes, to end."""
    first = start("project", redis_url=redis_url, lease_seconds=300)
    wait_until(lambda: state(redis, "patterns", "market-0", "epoch") != "0", "the first has the segment")
    assert stop(first) == 0
    with running("project", redis_url=redis_url, lease_seconds=300):
        wait_until(lambda: state(redis, "patterns", "market-0", "epoch") == "2", "the second has the segment")
