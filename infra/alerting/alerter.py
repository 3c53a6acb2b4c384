"""The alerter: leases the partitions of the market log, and runs the alerts of each partition that it has."""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, NamedTuple

import structlog
from redis.exceptions import RedisError

from domain.partitions import MAX_PARTITIONS
from domain.streams import USERS_LOG
from infra.alerting.active_alerts import ActiveAlerts
from infra.alerting.partition import PartitionAlerts
from infra.alerting.sender import Sender
from infra.alerts.addresses import AddressPolicy
from infra.alerts.deliveries import BackOff
from infra.alerts.queue import DeliveryQueue, segment_of
from infra.alerts.webhook_client import WebhookClient
from infra.heartbeats.heartbeats import Heartbeats
from infra.heartbeats.progress import Progress
from infra.log.directory import LogDirectory
from infra.processes.outage import OutageLog
from infra.read_models.row_queries import RedisRowQueries
from infra.read_models.store import RedisStore
from infra.redis.connections import AsyncRedisClient, RedisClient
from infra.serving.changes_follower import ChangesFollower
from infra.serving.freshness import RedisFreshness
from infra.serving.live_read_model import LiveReadModel
from infra.serving.replicas import ReplicatedReadModel
from infra.user_keys.key_store import UserKeys
from projections.ports import Lease
from projections.registry import READ_MODELS
from projections.symbols import Symbols
from projections.universes import Universes
from projections.versions import Build
from projections.workspaces import Workspaces
from readapi.catalogue.filters import Catalogue
from readapi.http.read_model import ReadModel
from readapi.read_models.filter_parameters import AS_THEY_ARE

logger = structlog.get_logger()

MAX_CATALOGUE_ROWS = 1_000_000
"""Highest number of symbols or universes. Presets beyond cannot be resolved."""

ROLE = "alert"
"""The name of the role in heartbeats."""


class AlertOptions(NamedTuple):
    """The options of an alerter."""

    policy: AddressPolicy
    """The addresses that webhooks may have."""
    lease_seconds: float
    """The duration of a lease in seconds."""
    back_off: BackOff = BackOff()
    """The waits between the attempts of a delivery."""
    shown_values: Mapping[str, float] = AS_THEY_ARE
    """Column -> the number that the API shows, and presets compare, where a pattern has none."""


class Alerter:
    """One process of the role. A second process takes the partitions over when the leases of the first one end.

    Args:
        client: The client of the server that holds the read models and the queues.
        async_client: The same server, for the read models and for published alerts.
        owner: A name that no other process has.
        logs: The partitions of the market log, also those that are added, and the log of the users.
        options: The options.
    """

    def __init__(
        self,
        client: RedisClient,
        async_client: AsyncRedisClient,
        owner: str,
        logs: LogDirectory,
        options: AlertOptions,
    ) -> None:
        self._client = client
        self._async_client = async_client
        self._owner = owner
        self._users = logs[USERS_LOG]
        self._logs = logs
        self._options = options
        self._store = RedisStore(client)
        self._held: dict[str, tuple[Lease, PartitionAlerts, asyncio.Task[None]]] = {}
        self._progress = Progress()

    async def run(self, stop: Event) -> None:
        """Work until ``stop`` is set, then release all leases."""
        # Each partition blocks a thread while it waits for entries, and needs another one for its commits.
        threads = ThreadPoolExecutor(3 * MAX_PARTITIONS + 8, thread_name_prefix="alerter")
        asyncio.get_running_loop().set_default_executor(threads)
        follower, alerts = self._open_alerts()
        webhooks = WebhookClient(self._options.policy)
        sender = Sender(webhooks, self._async_client, self._options.back_off)
        heartbeats = Heartbeats(self._client, self._owner, {ROLE: lambda: self._all_progress(follower)})
        # None of them ends by itself: an end is an error, which ends the process.
        tasks = [
            asyncio.ensure_future(work)
            for work in (follower.run(), self._lease_partitions(alerts, sender), sender.lanes.failure)
        ]
        try:
            while not stop.is_set():
                await asyncio.to_thread(heartbeats.beat)
                ended, _ = await asyncio.wait(tasks, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    task.result()
        finally:
            await _cancel(tasks)
            await self._leave()
            await sender.lanes.aclose()
            await webhooks.aclose()
            await self._async_client.aclose()
            await asyncio.to_thread(heartbeats.withdraw, ROLE)

    def _all_progress(self, follower: ChangesFollower) -> list[Progress]:
        return [self._progress, follower.progress, *(partition.progress for _, partition, _ in self._held.values())]

    def _open_alerts(self) -> tuple[ChangesFollower, ActiveAlerts]:
        """Open the read models from which the alerts follow, and what keeps them current."""
        freshness = RedisFreshness()
        names = (Workspaces.name, Symbols.name, Universes.name)
        live = {name: self._open_live(name) for name in names}
        catalogue = Catalogue(
            *(ReadModel(READ_MODELS[name], live[name], wait_seconds=0, freshness=freshness) for name in names[1:])
        )
        keys, shown_values = UserKeys(self._users), self._options.shown_values
        alerts = ActiveAlerts(live[Workspaces.name], catalogue, keys, shown_values)
        live[Workspaces.name].add_commit_listener(alerts)
        return ChangesFollower(self._async_client, live.values(), freshness), alerts

    def _open_live(self, name: str) -> LiveReadModel:
        projection = READ_MODELS[name]
        logs = tuple(filter(projection.folds, self._logs))

        def open_queries(build: Build, logs: Sequence[str]) -> Any:
            return RedisRowQueries(self._async_client, projection, build, logs)

        if projection.has_replica:
            return ReplicatedReadModel(projection, logs, open_queries, MAX_CATALOGUE_ROWS)
        return LiveReadModel(projection, logs, open_queries)

    async def _lease_partitions(self, alerts: ActiveAlerts, sender: Sender) -> None:
        """Renew the leases and acquire free ones, again and again."""
        outage = OutageLog("leases of alerts not renewed", "leases of alerts renewed again")
        while True:
            try:
                await self._renew(alerts, sender)
            except RedisError as error:
                outage.failed(error)
                self._progress.failed(error)
            else:
                outage.recovered()
                self._progress.made()
            await asyncio.sleep(self._options.lease_seconds / 3)

    async def _renew(self, alerts: ActiveAlerts, sender: Sender) -> None:
        await asyncio.to_thread(self._logs.refresh)
        partitions = self._logs.market
        names = list(partitions)
        segments = list(map(segment_of, names))
        leases = await asyncio.to_thread(self._store.lease, segments, self._owner, self._options.lease_seconds)
        for name, lease in zip(names, leases, strict=True):
            held = self._held.get(name)
            if held and (lease is None or lease.epoch != held[0].epoch or held[2].done()):
                await self._stop(name)
                held = None
            if lease is not None and held is None:
                queue = DeliveryQueue(self._client, lease)
                partition = PartitionAlerts(partitions[name], lease, queue, alerts, sender, self._users)
                self._held[name] = (lease, partition, asyncio.create_task(partition.run()))
                logger.info("alerts started", log=name, epoch=lease.epoch, checkpoint=lease.checkpoint)

    async def _stop(self, name: str) -> None:
        """Stop the alerts of a partition. Raises the error with which they ended, if they ended by themselves."""
        _, _, task = self._held.pop(name)
        if task.done():
            task.result()
        await _cancel([task])

    async def _leave(self) -> None:
        leases = [lease for lease, _, _ in self._held.values()]
        for name in list(self._held):
            await self._stop(name)
        try:
            await asyncio.to_thread(self._store.release, leases)
        except RedisError as error:
            logger.warning("leases not released, they expire by themselves", error=str(error))


async def _cancel(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Cancel tasks until they end. Before Python 3.12, ``asyncio.wait_for`` in redis-py can swallow a cancellation."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)
