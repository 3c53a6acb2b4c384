"""Jobs: long work that an operator starts over HTTP. A child process does the work and keeps its state in Redis.

One job of each name runs at a time in the whole service. A lease in Redis proves that the process lives: the process
renews it, and its end shows a job whose process was killed.
"""

import time
from collections.abc import Callable, Mapping
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import orjson
import structlog
from eventsourcing.persistence import PersistenceError
from redis.client import Pipeline
from redis.exceptions import RedisError

from domain.errors import TickViewError
from infra.composition import redis_url
from infra.plugins import configure
from infra.processes.background import start_in_background
from infra.processes.logs import configure_logs
from infra.redis.connections import RedisClient, connect
from infra.settings import Settings
from readapi.ports.errors import StateConflictError
from readapi.ports.jobs import Job, PartProgress

logger = structlog.get_logger()

KEPT_SECONDS = 7 * 86_400
"""Seconds for which the state of a job is kept."""

LEASE_SECONDS = 20
"""Seconds after the last sign of life after which a process counts as ended. The start takes a few of them."""

PUBLISH_SECONDS = 0.5
"""Seconds between two updates of the state in Redis."""

Report = Callable[[str, int, int], None]
"""A function that is called with a part of the job, what is done of it, and its total."""

Work = Callable[[Settings, Mapping[str, Any], Report], Any]
"""A function of a module that does a job. Its arguments are the settings, the options and the report of progress. It
returns the result as a JSON document."""


def start_job(client: RedisClient, name: str, work: Work, options: Mapping[str, Any]) -> Job:
    """Start a job, and return its first state.

    Raises:
        StateConflictError: The job is under way.
        RedisError: Redis cannot be used.
    """
    keys = _Keys(name)
    if not client.set(keys.lease, uuid4().hex, nx=True, ex=LEASE_SECONDS):
        raise StateConflictError("under-way", f"The job {name} is under way. Wait for its end.")
    job = Job(options, time.time(), None, (), None, None)
    _store(client, keys, job)
    start_in_background(_run, name, work, job)
    return job


def read_job(client: RedisClient, name: str) -> Job | None:
    """Return the state of the last job of this name. None if there was none, or if it is too long ago."""
    keys = _Keys(name)
    # One transaction reads both keys: a job that ends between two reads would seem to have ended without a result.
    with client.pipeline(transaction=True) as pipeline:
        pipeline.get(keys.state)
        pipeline.exists(keys.lease)
        state, is_alive = pipeline.execute()
    if state is None:
        return None
    job = Job(**orjson.loads(state))
    if job.finished_at is None and not is_alive:
        return _ended(job, error="the process of the job has ended without a result; start the job again")
    return job


class _Keys:
    """The Redis keys of a job, in one slot of a cluster. ``lease`` exists while the process lives."""

    def __init__(self, name: str) -> None:
        self.state = f"tickview:{{job:{name}}}:state"
        self.lease = f"tickview:{{job:{name}}}:lease"


def _store(client: RedisClient | Pipeline, keys: _Keys, job: Job) -> None:
    client.set(keys.state, orjson.dumps(job), ex=KEPT_SECONDS)


def _ended(job: Job, *, result: Any = None, error: str | None = None) -> Job:
    return Job(job.options, job.started_at, time.time(), job.parts, result, error)


class _Publisher:
    """Keeps the lease and the progress of a job in Redis up to date, in a thread, until the job ends."""

    def __init__(self, client: RedisClient, keys: _Keys, job: Job) -> None:
        self._client = client
        self._keys = keys
        self._job = job
        self._parts: dict[str, PartProgress] = {}
        self._is_done = Event()
        self._thread = Thread(target=self._publish, name="job progress", daemon=True)
        self._thread.start()

    def report(self, name: str, done: int, total: int) -> None:
        """Note the progress of a part. Several threads may call this."""
        self._parts[name] = PartProgress(name=name, done=done, total=total)

    def end(self, *, result: Any = None, error: str | None = None) -> None:
        """Store the end of the job, and give up the lease."""
        self._is_done.set()
        self._thread.join()
        # One transaction writes both keys, so that a client that reads the end can start the next job at once.
        with self._client.pipeline(transaction=True) as pipeline:
            _store(pipeline, self._keys, _ended(self._present(), result=result, error=error))
            pipeline.delete(self._keys.lease)
            pipeline.execute()

    def _present(self) -> Job:
        job = self._job
        return Job(job.options, job.started_at, None, list(self._parts.values()), None, None)

    def _publish(self) -> None:
        while not self._is_done.is_set():
            try:
                self._client.set(self._keys.lease, "", ex=LEASE_SECONDS)
                _store(self._client, self._keys, self._present())
            except RedisError as error:
                logger.warning("progress of a job not stored", job=self._keys.state, error=str(error))
            self._is_done.wait(PUBLISH_SECONDS)


def _run(name: str, work: Work, job: Job) -> None:
    """Do a job in this process, and store its end."""
    settings = configure()
    configure_logs(settings.log_level, "job")
    with connect(redis_url(settings)) as client:
        publisher = _Publisher(client, _Keys(name), job)
        try:
            result = work(settings, job.options, publisher.report)
        except (TickViewError, PersistenceError, RedisError) as error:
            logger.warning("job failed", job=name, error=str(error))
            publisher.end(error=str(error))
        except BaseException:
            publisher.end(error="the job failed; the log of the service has the reason")
            raise
        else:
            publisher.end(result=result)
