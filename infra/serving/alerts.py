"""Alerts in an API process: the webhooks behind the port, and the alerts for live connections."""

import asyncio

import structlog
from redis.exceptions import RedisError

from domain.list_rules import InvalidListError
from infra.alerts.addresses import AddressError, AddressPolicy
from infra.alerts.published import PublishedAlerts
from infra.alerts.signatures import format_secret, webhook_secret
from infra.processes.outage import OutageLog
from infra.redis.connections import AsyncRedisClient
from infra.serving.blocking_calls import in_thread
from infra.user_keys.key_store import UserKeys
from readapi.ports.errors import UnavailableError
from readapi.push.hub import Hub

logger = structlog.get_logger()

RETRY_SECONDS = 0.5
"""Seconds between two attempts while Redis is unavailable."""


class AsyncWebhooks:
    """The webhooks of alerts. Implements ``Webhooks``.

    Args:
        policy: The addresses that webhooks may have.
        keys: The keys of the users, from which the secrets are derived.
    """

    def __init__(self, policy: AddressPolicy, keys: UserKeys) -> None:
        self._policy = policy
        self._keys = keys

    async def check(self, url: str) -> None:
        """Check that a webhook may have a URL. Raises InvalidListError."""
        try:
            await self._policy.check(url)
        except AddressError as error:
            raise InvalidListError([("webhook", str(error))]) from error

    async def secret(self, user: str, list_id: str, salt: str) -> str:
        """Return the secret that signs the requests to a webhook. Raises UnavailableError."""
        key = (await in_thread(lambda: self._keys.read([user]))).get(user)
        if key is None or not key.secret:
            raise UnavailableError("the lists of this user are being forgotten: send the request again")
        return format_secret(webhook_secret(key, list_id, salt))


async def follow_alerts(client: AsyncRedisClient, hub: Hub) -> None:
    """Send the alerts for live connections to the clients of this process, until cancelled.

    Args:
        client: A client of which one connection waits for alerts.
        hub: Live push.
    """
    published = PublishedAlerts(client)
    outage = OutageLog("alerts not read", "alerts read again")
    while True:
        try:
            async for alert in published.read():
                await hub.send_alert(alert.user, alert.content)
            outage.recovered()
        except RedisError as error:
            outage.failed(error)
            await asyncio.sleep(RETRY_SECONDS)
