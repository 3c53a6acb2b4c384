"""Worker: leases a fair share of the segments of every build, and folds each of them in a thread."""

from collections.abc import Mapping, Sequence
from threading import Event
from typing import Any

import structlog
from redis.exceptions import RedisError

from infra.heartbeats.heartbeats import Heartbeats
from infra.heartbeats.progress import Progress
from infra.log.directory import LogDirectory
from infra.processes.outage import OutageLog
from infra.projecting.build_lifecycle import (
    ModelBuild,
    begin_builds,
    check_code,
    claim_builds,
    switch_if_caught_up,
)
from infra.projecting.build_removal import DroppedBuilds
from infra.projecting.leased_segments import LeasedSegments
from infra.projecting.projector_thread import SegmentOrders
from infra.projecting.running_code import announce_code, withdraw_code
from infra.projecting.segment_sharing import FairShare, register_worker, unregister_worker
from infra.projecting.worker_options import WorkerOptions
from infra.redis.connections import RedisClient
from projections.base import Projection
from projections.fingerprint import ProjectionCode
from projections.ports import Segment
from projections.registry import FORMER, projection_of
from projections.versions import Build, Versions

logger = structlog.get_logger()


class Worker:
    """The work of one worker process.

    Args:
        client: The client of the read models' server.
        name: A name that no other worker has.
        projections: The projections of this release, by name. Projections that fold no log in ``logs`` are ignored.
        logs: The logs. The worker folds partitions that are added, too.
        options: The options of the worker.
        former: Projections of earlier versions. Their builds are kept current for a rollback.

    Raises:
        NoSourceError: A projection is installed without its source.
    """

    def __init__(
        self,
        client: RedisClient,
        name: str,
        projections: Mapping[str, Projection[Any, Any]],
        logs: LogDirectory,
        options: WorkerOptions,
        former: Sequence[Projection[Any, Any]] = FORMER,
    ) -> None:
        self._client = client
        self._name = name
        self._projections = {
            name: projection for name, projection in projections.items() if any(map(projection.folds, logs))
        }
        self._all_projections = (
            *self._projections.values(),
            *(projection for projection in former if projection.name in self._projections),
        )
        self._codes = {(code.read_model, code.version): code for code in map(ProjectionCode.of, self._all_projections)}
        self._logs = logs
        self._options = options
        self._segments = LeasedSegments(client, name, logs, options)
        self._dropped = DroppedBuilds(client, self._logs_of)
        self._registered: list[ModelBuild] = []
        self._progress = Progress()
        self._heartbeats = Heartbeats(
            client,
            name,
            {
                "project": lambda: [self._progress, *self._segments.progress()],
                "expire": lambda: self._segments.progress(expiring=True),
            },
        )

    def run(self, stop: Event) -> None:
        """Work until ``stop`` is set, then release all leases.

        Raises:
            StartupError: A projection has changed, but its version has not.
        """
        check_code(self._client, list(self._codes.values()))
        outage = OutageLog("worker interrupted", "worker resumed")
        try:
            while not stop.is_set():
                try:
                    self.run_round()
                    outage.recovered()
                    self._progress.made()
                except RedisError as error:
                    outage.failed(error)
                    self._progress.failed(error)
                self._progress.wait(stop, self._options.lease_seconds / 3, self._heartbeats.beat)
        finally:
            self._leave()

    def _leave(self) -> None:
        """Release all leases, and remove the worker from all registries."""
        try:
            # The withdrawal comes first, so that no command relies on a worker that stops.
            withdraw_code(self._client, self._name, list(self._codes.values()))
            self._segments.release_all()
            unregister_worker(self._client, self._name, self._registered)
            self._heartbeats.withdraw("project", "expire")
        except RedisError as error:
            logger.warning("leases not released, they expire by themselves", error=str(error))

    def run_round(self) -> None:
        """Do one round of work.

        The round notes added partitions, announces the code, updates the builds, renews the leases, shares the
        segments, and removes dropped builds.

        Raises:
            StartupError: Another worker has begun to fold a version with other code.
        """
        self._logs.refresh()
        # The announcement precedes the builds, so that a read model which has a build is always folded.
        announce_code(self._client, self._name, list(self._codes.values()), self._options.lease_seconds)
        versions = begin_builds(self._client, self._projections)
        self._claim(self._foldable(versions))
        for name in versions:
            if self._can_fold(name, versions[name].building):
                versions[name] = switch_if_caught_up(self._client, name, versions[name], self._logs_of(name))
        builds = self._foldable(versions)
        self._segments.keep_only(builds)
        self._segments.renew()
        self._share(builds, versions)
        self._segments.give_orders(lambda segment: self._orders(segment, versions))
        self._dropped.remove_due(versions)

    def _foldable(self, versions: Mapping[str, Versions]) -> list[ModelBuild]:
        """Return the builds that are kept current and that this worker's code can fold."""
        return [
            ModelBuild(name, build)
            for name in versions
            for build in versions[name].maintained
            if self._can_fold(name, build)
        ]

    def _can_fold(self, name: str, build: Build | None) -> bool:
        return build is not None and (name, build.version) in self._codes

    def _claim(self, builds: Sequence[ModelBuild]) -> None:
        """Claim the builds that this worker has not folded yet."""
        codes = {self._codes[name, build.version] for name, build in builds if (name, build) not in self._registered}
        if codes:
            claim_builds(self._client, sorted(codes))

    def _logs_of(self, read_model: str) -> list[str]:
        return sorted(filter(self._projections[read_model].folds, self._logs))

    def _share(self, builds: Sequence[ModelBuild], versions: Mapping[str, Versions]) -> None:
        """Release the segments beyond the fair share of each build, and lease free segments up to the fair share."""
        self._registered = list(builds)
        ranks = register_worker(self._client, self._name, builds, self._options.lease_seconds)
        shares = {
            build: FairShare.of(build, self._logs_of(build.read_model), rank, self._segments.of_build(build))
            for build, rank in zip(builds, ranks, strict=True)
        }
        self._segments.release([segment for share in shares.values() for segment in share.surplus])
        while candidates := [segment for share in shares.values() for segment in share.next_candidates()]:
            for lease in self._segments.acquire(candidates):
                segment = lease.segment
                shares[ModelBuild.of(segment)].missing -= 1
                projection = projection_of(self._all_projections, segment.read_model, segment.build.version)
                assert projection is not None
                self._segments.start(lease, projection, self._orders(segment, versions))

    def _orders(self, segment: Segment, versions: Mapping[str, Versions]) -> SegmentOrders:
        """Return the orders: only the live build expires patterns, and only the build under way is throttled."""
        current = versions[segment.read_model]
        throttle = current.throttle or self._options.throttle
        return SegmentOrders(
            is_live=segment.build == current.live, throttle=throttle if segment.build == current.building else 0
        )
