"""Jobs in child processes: their progress, result and failure in Redis, and the end of a process without a result."""

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

import pytest
from redis import Redis

from domain.errors import TickViewError
from infra.operations.jobs import Report, read_job, start_job
from infra.settings import Settings
from readapi.ports.errors import StateConflictError
from readapi.ports.jobs import Job
from tests.processes.roles import wait_until


@pytest.fixture
def client(redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Redis:
    """A client of the server that the child processes use, too."""
    monkeypatch.setenv("TICKVIEW_REDIS_URL", redis_url)
    return redis


def count(_settings: Settings, options: Mapping[str, Any], report: Report) -> dict[str, Any]:
    for done in range(1, options["total"] + 1):
        report("numbers", done, options["total"])
    return {"sum": sum(range(options["total"] + 1))}


def fail(_settings: Settings, _options: Mapping[str, Any], _report: Report) -> None:
    raise TickViewError("the numbers cannot be counted")


def break_off(_settings: Settings, _options: Mapping[str, Any], _report: Report) -> None:
    raise ZeroDivisionError("a secret")


def wait(_settings: Settings, _options: Mapping[str, Any], report: Report) -> None:
    report("process", os.getpid(), os.getpid())
    time.sleep(60)


def ended(client: Redis, name: str) -> Job:
    def job() -> Job | None:
        job = read_job(client, name)
        return job if job and job.finished_at else None

    found = wait_until(job, "the job has ended")
    assert isinstance(found, Job)
    return found


def test_a_job_ends_with_its_result_and_can_be_started_again(client: Redis) -> None:
    assert read_job(client, "count") is None
    started = start_job(client, "count", count, {"total": 3})
    assert (started.options, started.finished_at, started.result) == ({"total": 3}, None, None)
    with pytest.raises(StateConflictError, match="under way"):
        start_job(client, "count", count, {"total": 4})
    first = ended(client, "count")
    assert (first.result, first.error) == ({"sum": 6}, None)
    assert first.parts == [{"name": "numbers", "done": 3, "total": 3}]
    start_job(client, "count", count, {"total": 4})
    assert ended(client, "count").result == {"sum": 10}


@pytest.mark.parametrize(
    ("work", "error"), [(fail, "the numbers cannot be counted"), (break_off, "the log of the service has the reason")]
)
def test_a_failed_job_says_why(client: Redis, work: Any, error: str) -> None:
    start_job(client, work.__name__, work, {})
    job = ended(client, work.__name__)
    assert job.result is None
    assert error in str(job.error)
    assert "secret" not in str(job.error)


def test_a_job_whose_process_is_killed_has_ended_without_a_result(client: Redis) -> None:
    start_job(client, "wait", wait, {})

    def process() -> int | None:
        job = read_job(client, "wait")
        return job.parts[0]["done"] if job and job.parts else None

    os.kill(wait_until(process, "the process works"), signal.SIGKILL)
    # The lease of a killed process expires. The test does not wait for this.
    client.delete("tickview:{job:wait}:lease")
    job = ended(client, "wait")
    assert job.result is None
    assert "has ended without a result" in str(job.error)
    assert start_job(client, "wait", count, {"total": 1}).error is None
    assert ended(client, "wait").result == {"sum": 1}
