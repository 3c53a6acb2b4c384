"""The alerts of one partition of the market log: the matching of its detections, and their deliveries.

Both run under the lease on the partition. The deliveries of all partitions share the lanes of the sender.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from heapq import heappop, heappush

import msgspec
import structlog
from eventsourcing.persistence import PersistenceError
from redis.exceptions import RedisError

from domain.log import LogEntry
from infra.alerting.active_alerts import ActiveAlert, ActiveAlerts
from infra.alerting.matching import deliveries_of, detections_of
from infra.alerting.sender import Sender
from infra.alerts.deliveries import Delivery, Outcome
from infra.alerts.journal import AlertJournal
from infra.alerts.queue import DeliveryQueue, LeaseLostError
from infra.heartbeats.progress import Progress
from infra.log.errors import HistoryGapError
from infra.log.event_log import EventLog
from infra.log.maintenance import log_state
from infra.processes.outage import OutageLog
from projections.ports import Lease
from readapi.ports.errors import UnavailableError

READ_BATCH = 1_000
"""Highest number of log entries that one read returns."""

WAIT_SECONDS = 1.0
"""Longest wait for log entries, in seconds. While there are no alerts, the seconds between two looks."""

CHECKPOINT_SECONDS = 1.0
"""Seconds after which a checkpoint without matches is stored. After a crash these entries are matched again."""

RETRY_SECONDS = 0.5
"""Seconds between two attempts while a server is away."""

MAX_AGE_SECONDS = 86_400.0
"""Age in seconds from which a detection is no longer announced, for example after a long stop of the alerter."""

MAX_WAITING = 1_000
"""Highest number of deliveries of one alert that wait in one partition. Further matches are given up."""

_ERRORS = (RedisError, PersistenceError, UnavailableError)
"""The errors after which a step is repeated."""

Step = Callable[[], Awaitable[None]]

logger = structlog.get_logger()


class PartitionAlerts:
    """Matches and delivers the alerts of one partition, as long as the process has the lease.

    Args:
        log: The partition.
        lease: The lease on the alerts of the partition.
        queue: The queue under this lease.
        alerts: The alerts of all users.
        sender: Makes the attempts.
        users: The log of the users.
    """

    def __init__(
        self,
        log: EventLog,
        lease: Lease,
        queue: DeliveryQueue,
        alerts: ActiveAlerts,
        sender: Sender,
        users: EventLog,
    ) -> None:
        self._log = log
        self._users = users
        self._queue = queue
        self._alerts = alerts
        self._sender = sender
        self._journal = AlertJournal(users)
        self._writing = asyncio.Lock()
        self._position = lease.checkpoint
        self._stored_at = time.monotonic()
        self._stored_position: int | None = None
        """The checkpoint that this object stored last. None: none yet."""
        self._waiting: dict[str, Delivery] = {}
        """All deliveries of the queue by id, those under way among them."""
        self._numbers: Counter[tuple[str, str]] = Counter()
        """The number of waiting deliveries of each alert."""
        self._due: list[tuple[float, str]] = []
        """The times and ids of the deliveries that wait for their next attempt, as a heap."""
        self._outcomes: list[Outcome] = []
        self._alerts_changed = True
        self._is_stopped = False
        self._has_due = asyncio.Event()
        self._has_outcomes = asyncio.Event()
        self._outage = OutageLog("alerts wait", "alerts go on", log=log.name)
        self.progress = Progress()

    async def run(self) -> None:
        """Match and deliver until cancelled, or until another process has the lease on the partition."""
        await self._retried(self._load)
        self._alerts.add_listener(self._on_change)
        try:
            async with asyncio.TaskGroup() as tasks:
                for work in (self._match, self._submit_due, self._finish):
                    tasks.create_task(self._repeat(work))
        except* LeaseLostError as lost:
            logger.warning("lease lost", log=self._log.name, reason=str(lost.exceptions[0]))
        finally:
            self._is_stopped = True
            self._alerts.remove_listener(self._on_change)

    def _on_change(self) -> None:
        self._alerts_changed = True
        self._has_due.set()

    async def _repeat(self, work: Step) -> None:
        while True:
            await self._retried(work)

    async def _retried(self, work: Step) -> None:
        while True:
            try:
                await work()
            except _ERRORS as error:
                self._outage.failed(error)
                self.progress.failed(error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _load(self) -> None:
        """Read the queue, and choose where the matching begins."""
        # Without the alerts, every waiting delivery would be dropped as the delivery of an alert that has ended.
        await self._alerts.catch_up(await asyncio.to_thread(self._users.head))
        state = await asyncio.to_thread(log_state, self._log)
        if self._position == 0:
            self._position = (state.first or 1) - 1
        # A server that lost events gives their positions out again.
        self._position = min(self._position, state.position)
        for delivery in await asyncio.to_thread(self._queue.load):
            self._add(delivery)

    def _add(self, delivery: Delivery) -> None:
        if delivery.id not in self._waiting:
            self._numbers[delivery.user, delivery.list_id] += 1
        self._waiting[delivery.id] = delivery
        heappush(self._due, (delivery.due, delivery.id))
        self._has_due.set()

    async def _match(self) -> None:
        """Match the next entries of the log. While there are no alerts, pass over all entries."""
        if self._alerts.compiled:
            entries = await self._read()
            end = entries[-1].position if entries else self._position
        else:
            entries, end = [], await asyncio.to_thread(self._log.head)
        # An alert that was acknowledged before a detection was recorded must be known before the match.
        await self._alerts.catch_up(await asyncio.to_thread(self._users.head))
        compiled = self._alerts.compiled
        if compiled and not entries and end > self._position:
            return
        deliveries: list[Delivery] = []
        oldest = time.time() - MAX_AGE_SECONDS
        for detection in detections_of(self._log.name, entries):
            if detection.recorded_at >= oldest:
                deliveries += deliveries_of(detection, compiled)
            await asyncio.sleep(0)
        await self._queue_matches(end, deliveries)
        self._outage.recovered()
        self.progress.made()
        if not compiled:
            await asyncio.sleep(WAIT_SECONDS)

    async def _read(self) -> list[LogEntry]:
        """Read the next entries. Pass over events that neither the log nor the archive has, after a long stop."""
        try:
            return await asyncio.to_thread(self._log.wait, self._position, READ_BATCH, WAIT_SECONDS)
        except HistoryGapError as error:
            logger.warning("detections passed over", log=self._log.name, error=str(error))
            state = await asyncio.to_thread(log_state, self._log)
            self._position = (state.first or state.position + 1) - 1
            return []

    async def _queue_matches(self, position: int, matched: Sequence[Delivery]) -> None:
        """Queue the matches that are new, with the checkpoint. A match that was queued before is left out."""
        fresh = {delivery.id: delivery for delivery in matched if delivery.id not in self._waiting}
        ended = await asyncio.to_thread(self._queue.ended_among, list(fresh)) if fresh else ()
        deliveries = list(self._bounded(fresh[each] for each in fresh if each not in ended))
        is_due = position != self._stored_position and time.monotonic() - self._stored_at >= CHECKPOINT_SECONDS
        if deliveries or is_due:
            async with self._writing:
                await asyncio.to_thread(self._queue.commit_matches, position, deliveries)
            self._stored_at, self._stored_position = time.monotonic(), position
        self._position = position
        for delivery in deliveries:
            self._add(delivery.without_pattern())

    def _bounded(self, deliveries: Iterable[Delivery]) -> Iterable[Delivery]:
        """Mark the deliveries beyond the bound of their alert as refused."""
        numbers = Counter(self._numbers)
        for delivery in deliveries:
            key = (delivery.user, delivery.list_id)
            numbers[key] += 1
            if numbers[key] > MAX_WAITING:
                yield msgspec.structs.replace(delivery, refusal=f"{MAX_WAITING:,} alerts of this preset wait already")
            else:
                yield delivery

    async def _submit_due(self) -> None:
        """Give the due deliveries to their lanes. Those of alerts that have ended are dropped at once."""
        seconds = self._due[0][0] - time.time() if self._due else None
        if seconds is None or seconds > 0:
            self._has_due.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._has_due.wait()
        if self._alerts_changed:
            self._alerts_changed = False
            self._drop_ended()
        while self._due and self._due[0][0] <= time.time():
            _, each = heappop(self._due)
            if (delivery := self._waiting.get(each)) is None:
                continue
            alert = self._alert_of(delivery)
            if alert is None:
                self._end(Outcome(delivery, "dropped"))
            elif delivery.refusal:
                self._end(Outcome(delivery, "failed", reason=delivery.refusal))
            else:
                self._sender.lanes.submit(alert.lane, partial(self._attempt, delivery))

    def _drop_ended(self) -> None:
        under_way = {outcome.delivery.id for outcome in self._outcomes if outcome.kind != "retry"}
        for delivery in list(self._waiting.values()):
            if self._alert_of(delivery) is None and delivery.id not in under_way:
                self._end(Outcome(delivery, "dropped"))

    def _alert_of(self, delivery: Delivery) -> ActiveAlert | None:
        return self._alerts.get(delivery.user, delivery.list_id, delivery.since)

    async def _attempt(self, delivery: Delivery) -> None:
        """Make one attempt, unless the alert has ended or the lease was lost meanwhile."""
        if self._is_stopped:
            return
        try:
            stored = await asyncio.to_thread(self._queue.read, delivery.id)
        except RedisError:
            heappush(self._due, (time.time() + RETRY_SECONDS, delivery.id))
            self._has_due.set()
            return
        alert = self._alert_of(delivery)
        if stored is None or alert is None:
            return
        outcome = await self._sender.attempt(stored, alert)
        if outcome.kind == "retry" and self._alert_of(delivery) is None:
            outcome = Outcome(outcome.delivery, "dropped")
        self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._has_outcomes.set()

    async def _finish(self) -> None:
        """Record the ends of deliveries as events, and then remove them from the queue."""
        await self._has_outcomes.wait()
        self._has_outcomes.clear()
        outcomes = {outcome.delivery.id: outcome for outcome in self._outcomes}
        try:
            await asyncio.to_thread(self._journal.record, list(outcomes.values()))
            async with self._writing:
                await asyncio.to_thread(self._queue.commit_outcomes, list(outcomes.values()))
        except _ERRORS:
            self._has_outcomes.set()
            raise
        self._outcomes = [outcome for outcome in self._outcomes if outcomes.get(outcome.delivery.id) is not outcome]
        for outcome in outcomes.values():
            delivery = outcome.delivery
            if outcome.kind == "retry":
                self._add(delivery.without_pattern())
            elif self._waiting.pop(delivery.id, None):
                self._numbers[delivery.user, delivery.list_id] -= 1
        if self._outcomes:
            self._has_outcomes.set()
