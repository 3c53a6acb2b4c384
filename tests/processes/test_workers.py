"""Worker processes that are killed, suspended and stopped: every event takes effect exactly once."""

import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from redis import Redis

from domain.codec import decode
from domain.events import Event
from infra.log.event_log import EventLog
from infra.read_models.keys import SegmentKeys
from infra.redis.connections import connect
from projections.base import ENDS_INDEX
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build
from tests import servers
from tests.oracles.read_models import ORACLES
from tests.processes.histories import LOGS, append, events_by_log, random_history
from tests.processes.roles import killed_role, running_role, start, stop, wait_until
from tests.read_model import assert_same_content, load_segment

LEASE_SECONDS = 0.5


def keys_of(read_model: str, log: str) -> SegmentKeys:
    return SegmentKeys(Segment(read_model, Build(READ_MODELS[read_model].version, 1), log))


MODELS = {name: projection for name, projection in READ_MODELS.items() if projection.folds(LOGS[0])}
"""The read models of the market log."""


def state(redis: Redis, read_model: str, log: str, field: str) -> str:
    value = redis.hget(keys_of(read_model, log).state, field)
    return (value or b"0").decode()


def assert_folded(redis: Redis, history: list[Event], logs: dict[str, EventLog] | None = None) -> None:
    """Wait until all segments are at the end of their logs, then compare every read model with its oracle.

    The expirer adds events to the history. If the logs are trimmed, ``logs`` read their beginnings from the archive.
    """
    logs = logs or {name: EventLog(redis, name) for name in LOGS}

    def at_the_end() -> bool:
        due = sum(redis.zcount(keys_of("patterns", log).index(ENDS_INDEX), "-inf", time.time()) for log in LOGS)
        heads = {name: log.head() for name, log in logs.items()}
        return due == 0 and all(
            int(state(redis, name, log, "checkpoint")) == heads[log] for name in MODELS for log in LOGS
        )

    wait_until(at_the_end, "all segments are folded")
    for log in LOGS:
        entries = logs[log].read(0, 100_000)
        recorded = [decode(entry.topic, entry.event_id, entry.state) for entry in entries]
        assert {event.event_id for event in events_by_log(history)[log]} <= {event.event_id for event in recorded}
        for name, projection in MODELS.items():
            build = Build(projection.version, 1)
            assert_same_content(load_segment(redis, projection, log, build), ORACLES[name](recorded))


def test_killed_and_suspended_workers_leave_correct_read_models(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """Of four workers on four partitions, one is killed and one is suspended until its leases have ended.

    Both are in the middle of their work.
    """
    history = random_history(4_000, seed=1)
    log = tmp_path / "suspended.log"
    with ExitStack() as stack:
        logs = [None, stack.enter_context(log.open("wb")), None, None]
        settings = {"redis_url": redis_url, "lease_seconds": LEASE_SECONDS, "fold_batch": 7}
        workers = [stack.enter_context(running_role("project", log=log, **settings)) for log in logs]
        append(redis, history[:1_000])
        killed, suspended, *_ = workers

        def owned_by(pid: int) -> dict[tuple[str, str], int]:
            """Return the epochs of the segments that a process owns. HMGET reads owner and epoch at the same moment."""
            segments = [(name, log) for name in MODELS for log in LOGS]
            leases = {segment: redis.hmget(keys_of(*segment).state, "owner", "epoch") for segment in segments}
            return {
                segment: int(epoch)
                for segment, (owner, epoch) in leases.items()
                if f"-{pid}-".encode() in (owner or b"")
            }

        wait_until(lambda: all(owned_by(worker.pid) for worker in workers), "every worker has a segment")
        append(redis, history[1_000:2_000])
        suspended.send_signal(signal.SIGSTOP)
        lost = owned_by(suspended.pid)
        logged = log.stat().st_size
        killed.kill()
        append(redis, history[2_000:3_000])
        wait_until(
            lambda: all(int(state(redis, *segment, "epoch")) > epoch for segment, epoch in lost.items()),
            "other workers have acquired the segments of the suspended worker",
        )
        suspended.send_signal(signal.SIGCONT)
        append(redis, history[3_000:])
        assert_folded(redis, history)
        # Either the fence refuses a commit of the worker, or the worker sees first that its leases are lost.
        wait_until(
            lambda: log.read_bytes()[logged:].count(b'"segment left"') >= len(lost),
            "the suspended worker has left the segments that it lost",
        )


def test_workers_killed_one_after_another_leave_correct_read_models(redis: Redis, redis_url: str) -> None:
    """Each worker is killed in the middle of its work."""
    history = random_history(3_000, seed=2)
    chance = random.Random(2)
    append(redis, history)
    for _ in range(4):
        with killed_role("project", redis_url=redis_url, lease_seconds=0.3, fold_batch=5):
            before = int(state(redis, "activity", "market-1", "checkpoint"))
            target = before + chance.randrange(20, 120)
            wait_until(
                lambda target=target: int(state(redis, "activity", "market-1", "checkpoint")) >= target,
                "the worker makes progress",
            )
    with running_role("project", redis_url=redis_url, lease_seconds=0.3):
        assert_folded(redis, history)


def test_stopped_worker_releases_its_leases(redis: Redis, redis_url: str) -> None:
    """The next worker does not wait for the end of the leases, which last five minutes here."""
    first = start("project", redis_url=redis_url, lease_seconds=300)
    wait_until(lambda: state(redis, "patterns", "market-0", "epoch") != "0", "the first worker has the segment")
    assert stop(first) == 0
    with running_role("project", redis_url=redis_url, lease_seconds=300):
        wait_until(lambda: state(redis, "patterns", "market-0", "epoch") == "2", "the second worker has the segment")


def test_worker_stopped_while_redis_is_away_exits_with_zero(tmp_path: Path) -> None:
    with servers.valkey(data=tmp_path) as server, connect(server.connection_url) as client:
        with killed_role("project", redis_url=server.connection_url) as worker:
            wait_until(lambda: state(client, "patterns", "market-0", "epoch") != "0", "the worker has the segment")
            server.stop()
            assert stop(worker) == 0
        server.start()
