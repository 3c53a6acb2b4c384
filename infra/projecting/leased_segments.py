"""Leased segments: the segments that one worker leases, each with its projector thread."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import structlog

from infra.heartbeats.progress import Progress
from infra.log.event_log import EventLog
from infra.projecting.build_lifecycle import ModelBuild
from infra.projecting.projector_thread import ProjectorThread, SegmentOrders
from infra.projecting.worker_options import WorkerOptions
from infra.read_models.store import RedisStore
from infra.redis.connections import RedisClient
from projections.base import Projection
from projections.ports import Lease, Segment

logger = structlog.get_logger()


class LeasedSegments:
    """The segments that a worker leases. A projector thread folds each of them.

    Args:
        client: The client of the read models' server.
        owner: The name of the worker, under which it leases segments.
        logs: The logs by name.
        options: The options of the worker.
    """

    def __init__(self, client: RedisClient, owner: str, logs: Mapping[str, EventLog], options: WorkerOptions) -> None:
        self._client = client
        self._owner = owner
        self._logs = logs
        self._options = options
        self._store = RedisStore(client)
        self._threads: dict[Segment, ProjectorThread] = {}

    def of_build(self, build: ModelBuild) -> list[Segment]:
        """Return the segments of one build, in the order in which they were acquired."""
        return [segment for segment in self._threads if ModelBuild.of(segment) == build]

    def progress(self, *, expiring: bool = False) -> list[Progress]:
        """Return the progress of all running threads in folding, or in recording the end of rows."""
        threads = [thread for thread in self._threads.values() if thread.is_alive()]
        if expiring:
            return [thread.expiry_progress for thread in threads if thread.expires]
        return [thread.progress for thread in threads]

    def acquire(self, segments: Sequence[Segment]) -> list[Lease]:
        """Lease segments. Return the leases of the segments that no other worker holds."""
        leases = self._store.lease(segments, self._owner, self._options.lease_seconds)
        return [lease for lease in leases if lease is not None]

    def start(self, lease: Lease, projection: Projection[Any, Any], orders: SegmentOrders) -> None:
        """Start a thread that folds the segment of a new lease."""
        log = self._logs[lease.segment.log]
        projector = self._options.projector_class(projection, log, self._store, lease)
        thread = ProjectorThread(self._client, log, projector, self._options.batch_size, orders)
        self._threads[lease.segment] = thread
        thread.start()
        logger.info("segment acquired", **thread.log_context, epoch=lease.epoch, checkpoint=lease.checkpoint)

    def give_orders(self, orders_of: Callable[[Segment], SegmentOrders]) -> None:
        """Give each thread the orders for its segment."""
        for segment, thread in self._threads.items():
            thread.give_orders(orders_of(segment))

    def renew(self) -> None:
        """Renew every lease. Stop the threads whose lease is lost, and pass requests to retry parked keys on."""
        threads = list(self._threads.values())
        leases = self._store.lease([thread.segment for thread in threads], self._owner, self._options.lease_seconds)
        lost: list[ProjectorThread] = []
        for thread, lease in zip(threads, leases, strict=True):
            if lease is None or lease.epoch != thread.lease.epoch or not thread.is_alive():
                lost.append(thread)
            elif lease.retries:
                thread.request_retry()
        self._stop(lost)

    def keep_only(self, builds: Collection[ModelBuild]) -> None:
        """Stop the threads of all other builds. Their leases expire."""
        self._stop([thread for segment, thread in self._threads.items() if ModelBuild.of(segment) not in builds])

    def release(self, segments: Sequence[Segment]) -> None:
        """Stop the threads of segments and release their leases, so that other workers can take them at once."""
        threads = [self._threads[segment] for segment in segments]
        self._stop(threads)
        self._store.release([thread.lease for thread in threads])

    def release_all(self) -> None:
        """Stop every thread and release every lease."""
        self.release(list(self._threads))

    def _stop(self, threads: Sequence[ProjectorThread]) -> None:
        # Every stop is requested before the first join: otherwise the other leases could expire during the joins.
        for thread in threads:
            thread.request_stop()
        for thread in threads:
            thread.join()
            del self._threads[thread.segment]
            logger.info("segment left", **thread.log_context, checkpoint=thread.lease.checkpoint)
