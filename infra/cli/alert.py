"""``tickview alert``: the role that matches detections with the alerts of users, and delivers the matches."""

import asyncio

from domain.streams import USERS_LOG
from infra.alerting.alerter import Alerter, AlertOptions
from infra.alerts.addresses import AddressPolicy
from infra.composition import open_market_logs, open_stores, redis_url
from infra.plugins import configure
from infra.processes.identity import process_name
from infra.processes.logs import configure_logs
from infra.processes.stop_signals import stop_on_signals
from infra.redis.connections import connect_async
from readapi.compatibility.tickstock.shown_values import shown_values


def alert() -> None:
    """Match new patterns with the alerts of users, and deliver the matches to webhooks and live connections.

    You can run several processes. At any time only one of them works on a partition of the log.

    Example: TICKVIEW_REDIS_URL=redis://localhost tickview alert
    """
    settings = configure()
    configure_logs(settings.log_level, "alert")
    stores = open_stores(settings)
    logs = open_market_logs(stores, USERS_LOG)
    stop = stop_on_signals()
    options = AlertOptions(
        AddressPolicy(settings.alert_private_addresses),
        settings.lease_seconds,
        shown_values=shown_values(settings.compatibility),
    )

    async def run() -> None:
        await Alerter(stores.redis, connect_async(redis_url(settings)), process_name(), logs, options).run(stop)

    asyncio.run(run())
