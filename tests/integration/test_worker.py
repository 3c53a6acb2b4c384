"""A worker on a real server: what it leaves does not cost it what it holds."""

from threading import Event

from redis import Redis

from infra.log.event_log import EventLog
from infra.operations import commands
from infra.projecting.worker import Worker
from infra.projecting.worker_options import WorkerOptions
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build

LOGS = ["market-0", "market-1", "market-2", "market-3", "users"]


def test_a_build_of_everything_is_left_and_no_other_lease_lapses_meanwhile(redis: Redis) -> None:
    logs = {name: EventLog(redis, name) for name in LOGS}
    worker = Worker(redis, "worker", READ_MODELS, logs, WorkerOptions(lease_seconds=5, batch_size=10))
    stopped = Event()
    stopped.set()

    def live() -> set[Build | None]:
        return {versions.live for versions in read_versions(redis, READ_MODELS).values()}

    try:
        worker.run_round()
        for number in (2, 3):
            for name in READ_MODELS:
                commands.replay(redis, name, held=False, throttle=0)
            while live() != {Build(1, number)}:
                worker.run_round()
        worker.run_round()
        kept = [
            SegmentKeys(Segment(name, Build(1, number), log)).state
            for name, projection in READ_MODELS.items()
            for number in (2, 3)
            for log in LOGS
            if projection.folds(log)
        ]
        assert {redis.hget(state, "epoch") for state in kept} == {b"1"}
    finally:
        worker.run(stopped)
