"""A worker on a real server: it extends leases while it drops old builds, and divides batches that are too large."""

from threading import Event, Thread

from redis import Redis

from infra.log.event_log import EventLog
from infra.operations import commands
from infra.projecting.worker import Worker
from infra.projecting.worker_options import WorkerOptions
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.redis.connections import connect
from projections.backtests import Backtests
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build
from tests import servers
from tests.events import backtest_completed, new_events
from tests.logs import open_directory
from tests.processes.roles import wait_until

LOGS = ["market-0", "market-1", "market-2", "market-3", "users"]


def test_dropping_the_builds_of_all_read_models_lets_no_other_lease_expire(redis: Redis) -> None:
    logs = open_directory(redis, 4, "users")
    worker = Worker(redis, "worker", READ_MODELS, logs, WorkerOptions(lease_seconds=5, batch_size=10))
    stopped = Event()
    stopped.set()
    code = commands.release_code()

    def live_builds() -> dict[str, Build | None]:
        return {name: versions.live for name, versions in read_versions(redis, READ_MODELS).items()}

    def builds(number: int) -> dict[str, Build]:
        return {name: Build(projection.version, number) for name, projection in READ_MODELS.items()}

    try:
        worker.run_round()
        for number in (2, 3):
            for name in READ_MODELS:
                commands.replay(redis, code[name], held=False, throttle=0)
            while live_builds() != builds(number):
                worker.run_round()
        worker.run_round()
        states = [
            SegmentKeys(Segment(name, Build(projection.version, number), log)).state
            for name, projection in READ_MODELS.items()
            for number in (2, 3)
            for log in LOGS
            if projection.folds(log)
        ]
        assert {redis.hget(state, "epoch") for state in states} == {b"1"}
    finally:
        worker.run(stopped)


def test_a_batch_that_the_server_refuses_because_of_its_size_is_divided() -> None:
    """The server closes the connection of a commit with more than one megabyte."""
    stop = Event()
    with servers.valkey(**{"proto-max-bulk-len": "1mb"}) as server, connect(server.connection_url) as redis:
        log = EventLog(redis, LOGS[0])
        for number in range(60):
            log.append(new_events([backtest_completed(job_id=f"job-{number}", results={"note": "x" * 40_000})]))
        projections = {Backtests.name: READ_MODELS[Backtests.name]}
        worker = Worker(
            redis, "worker", projections, open_directory(redis, 1), WorkerOptions(lease_seconds=5, batch_size=1_000)
        )
        thread = Thread(target=worker.run, args=(stop,))
        thread.start()
        rows = SegmentKeys(Segment(Backtests.name, Build(Backtests.version, 1), log.name)).rows
        try:
            wait_until(lambda: redis.hlen(rows) == 60, "all events are folded")
        finally:
            stop.set()
            thread.join()
