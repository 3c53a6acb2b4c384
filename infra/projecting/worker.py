"""A worker: leases its fair share of the segments of every build, and runs a projector for each in a thread."""

import time
from collections.abc import Mapping, Sequence
from threading import Event, Thread
from typing import Any, NamedTuple

import structlog
from redis import Redis
from redis.exceptions import RedisError

from infra.log.event_log import EventLog
from infra.processes.outage import OutageLog
from infra.projecting import build_lifecycle
from infra.projecting.projector import Projector
from infra.projecting.projector_thread import ProjectorThread
from infra.read_models.keys import workers_key
from infra.read_models.store import RedisStore
from infra.redis.functions import command, with_functions
from projections.base import Projection
from projections.ports import Lease, Segment
from projections.registry import FORMER, projection_of
from projections.versions import Build, Versions

logger = structlog.get_logger()

REMOVE_AFTER_SECONDS = 30.0
"""A dropped build is removed only when nobody can be reading it any more."""


class ModelBuild(NamedTuple):
    """A build that this worker's code can fold on."""

    read_model: str
    build: Build


class Worker:
    """One worker process's work.

    ``projections`` are those of this release, by name; of them it takes those that fold one of ``logs``. Builds of the
    ``former`` ones are folded on, for a way back.
    """

    def __init__(
        self,
        client: Redis,
        name: str,
        projections: Mapping[str, Projection[Any, Any]],
        logs: Mapping[str, EventLog],
        *,
        lease_seconds: float,
        batch_size: int,
        former: Sequence[Projection[Any, Any]] = FORMER,
        throttle: int = 0,
    ) -> None:
        self._client = client
        self._name = name
        self._projections = {
            name: projection for name, projection in projections.items() if any(map(projection.folds, logs))
        }
        self._known = (*self._projections.values(), *former)
        self._logs = logs
        self._lease_seconds = lease_seconds
        self._batch_size = batch_size
        self._throttle = throttle
        self._store = RedisStore(client)
        self._running: dict[Segment, ProjectorThread] = {}
        self._enrolled: list[ModelBuild] = []
        self._dropped_since: dict[ModelBuild, float] = {}

    def run(self, stop: Event) -> None:
        """Work until ``stop`` is set; then give all leases back. Raises StartupError for changed projections."""
        build_lifecycle.check_fingerprints(self._client, self._known)
        outage = OutageLog("worker waits", "worker goes on")
        while not stop.is_set():
            try:
                self.tend()
                outage.recovered()
            except RedisError as error:
                outage.failed(error)
            stop.wait(self._lease_seconds / 3)
        try:
            self._give_back(list(self._running.values()))
            self._enrol(self._enrolled, 0)
        except RedisError as error:
            logger.warning("leases not given back, they will lapse", error=str(error))

    def tend(self) -> None:
        """See which builds there are, prolong the leases held, give back those beyond the share, take free ones."""
        versions = build_lifecycle.deploy(self._client, self._projections)
        for name in versions:
            versions[name] = build_lifecycle.switch_if_caught_up(
                self._client, name, versions[name], self._logs_of(name)
            )
        kept = self._kept(versions)
        self._end([running for running in self._running.values() if ModelBuild(*running.segment[:2]) not in kept])
        self._prolong()
        self._enrolled = kept
        self._share(kept, versions)
        for running in self._running.values():
            self._instruct(running, versions[running.segment.read_model])
        self._remove_dropped(versions)

    def _kept(self, versions: Mapping[str, Versions]) -> list[ModelBuild]:
        return [
            ModelBuild(name, build)
            for name, found in versions.items()
            for build in found.maintained
            if projection_of(self._known, name, build.version)
        ]

    def _logs_of(self, read_model: str) -> list[str]:
        return sorted(filter(self._projections[read_model].folds, self._logs))

    def _prolong(self) -> None:
        held = list(self._running.values())
        leases = self._store.lease([running.segment for running in held], self._name, self._lease_seconds)
        lost: list[ProjectorThread] = []
        for running, lease in zip(held, leases, strict=True):
            if lease is None or lease.epoch != running.lease.epoch or not running.thread.is_alive():
                lost.append(running)
            elif lease.retries:
                running.retry.set()
        self._end(lost)

    def _share(self, kept: list[ModelBuild], versions: Mapping[str, Versions]) -> None:
        """Of each build, as many segments as there are for each worker that can fold it; workers begin elsewhere."""
        wanted: dict[ModelBuild, int] = {}
        free: dict[ModelBuild, list[Segment]] = {}
        for one, (place, workers) in zip(kept, self._enrol(kept, self._lease_seconds), strict=True):
            logs = self._logs_of(one.read_model)
            share = -(-len(logs) // workers)
            mine = [running for running in self._running.values() if ModelBuild(*running.segment[:2]) == one]
            self._give_back(mine[share:])
            first = place * share % len(logs)
            segments = [Segment(*one, log) for log in logs[first:] + logs[:first]]
            wanted[one] = share - len(mine[:share])
            free[one] = [segment for segment in segments if segment not in self._running]
        while asked := [segment for one in kept for segment in free[one][: wanted[one]]]:
            for one in kept:
                free[one] = free[one][wanted[one] :]
            for lease in self._store.lease(asked, self._name, self._lease_seconds):
                if lease is not None:
                    wanted[ModelBuild(*lease.segment[:2])] -= 1
                    self._begin(lease, versions[lease.segment.read_model])

    def _enrol(self, kept: list[ModelBuild], seconds: float) -> list[tuple[int, int]]:
        """This worker's place among those that can fold each build, and how many they are."""

        def enrol() -> list[tuple[int, int]]:
            with self._client.pipeline(transaction=False) as pipeline:
                for one in kept:
                    arguments = (self._name, round(seconds * 1000))
                    pipeline.execute_command(*command("register_worker", [workers_key(*one)], arguments))
                return [(place, count) for place, count in pipeline.execute()]

        return with_functions(self._client, enrol)

    def _begin(self, lease: Lease, versions: Versions) -> None:
        segment = lease.segment
        projection = projection_of(self._known, segment.read_model, segment.build.version)
        if projection is None:
            raise LookupError(f"no code for {segment}")
        log = self._logs[segment.log]
        projector = Projector(projection, log, self._store, lease, self._batch_size)
        running = ProjectorThread(self._client, log, projector, self._batch_size)
        self._running[segment] = running
        self._instruct(running, versions)
        running.thread.start()
        logger.info("segment taken", **running.described, epoch=lease.epoch, checkpoint=lease.checkpoint)

    def _instruct(self, running: ProjectorThread, versions: Versions) -> None:
        """Only the live build expires patterns; only the one under way is throttled."""
        running.is_live = running.segment.build == versions.live
        under_way = running.segment.build == versions.building
        running.throttle = (versions.throttle or self._throttle) if under_way else 0

    def _end(self, leaving: Sequence[ProjectorThread]) -> None:
        """Stop folding these, all at once: one after the other, the leases of the rest would lapse meanwhile."""
        for running in leaving:
            running.stop.set()
        for running in leaving:
            running.thread.join()
            del self._running[running.segment]
            logger.info("segment left", **running.described, checkpoint=running.lease.checkpoint)

    def _give_back(self, leaving: Sequence[ProjectorThread]) -> None:
        self._end(leaving)
        self._store.release([running.lease for running in leaving])

    def _remove_dropped(self, versions: Mapping[str, Versions]) -> None:
        """Remove the keys of builds that have been dropped for long enough, in a thread of its own."""
        dropping = {ModelBuild(name, build) for name, found in versions.items() for build in found.dropping}
        self._dropped_since = {one: self._dropped_since.get(one, time.monotonic()) for one in dropping}
        for one, since in self._dropped_since.items():
            if time.monotonic() - since > REMOVE_AFTER_SECONDS:
                self._dropped_since[one] = time.monotonic()
                Thread(
                    target=build_lifecycle.remove, args=(self._client, *one, self._logs_of(one.read_model)), daemon=True
                ).start()
