"""The sender: makes one attempt to deliver an alert, to its webhook or to the user's live connections."""

import time
from datetime import UTC, datetime
from typing import Any

import orjson
from msgspec import structs
from redis.exceptions import RedisError

from infra.alerting.active_alerts import ActiveAlert
from infra.alerting.lanes import Lanes
from infra.alerts.deliveries import BackOff, Channel, Delivery, Outcome
from infra.alerts.published import publish
from infra.alerts.signatures import signed_headers
from infra.alerts.webhook_client import Answer, WebhookClient
from infra.redis.connections import AsyncRedisClient

GONE = 410
"""The HTTP status by which a receiver says that it wants no request any more."""


class Sender:
    """Makes attempts. All partitions of a process share it.

    Args:
        webhooks: The client of the webhooks.
        redis: The client of the server through which API processes receive alerts for live connections.
        back_off: The waits between attempts.
    """

    def __init__(self, webhooks: WebhookClient, redis: AsyncRedisClient, back_off: BackOff) -> None:
        self.lanes = Lanes()
        self._webhooks = webhooks
        self._redis = redis
        self._back_off = back_off

    async def attempt(self, delivery: Delivery, alert: ActiveAlert) -> Outcome:
        """Make one attempt to deliver."""
        content = _content(delivery, alert)
        if alert.source.webhook is None:
            answer = await self._publish(delivery.user, content)
        else:
            body, now = orjson.dumps(content), int(time.time())
            headers = signed_headers(alert.secret, delivery.id, now, body)
            answer = await self._webhooks.post(alert.source.webhook, headers, body)
        channel: Channel = "push" if alert.source.webhook is None else "webhook"
        return self._outcome(structs.replace(delivery, channel=channel), answer)

    async def _publish(self, user: str, content: dict[str, Any]) -> Answer:
        try:
            await publish(self._redis, user, content)
        except RedisError as error:
            return Answer(None, str(error))
        return Answer(200)

    def _outcome(self, delivery: Delivery, answer: Answer) -> Outcome:
        attempts = delivery.attempts + 1
        status = None if delivery.channel == "push" else answer.status
        due = time.time() + self._back_off.wait(attempts)
        made = structs.replace(delivery, attempts=attempts, due=due)
        if answer.is_accepted:
            return Outcome(made, "delivered", status)
        reason = answer.error or f"the webhook answered {answer.status}"
        if attempts >= self._back_off.attempts or answer.status == GONE:
            return Outcome(made, "failed", status, reason)
        return Outcome(made, "retry", status, reason)


def _content(delivery: Delivery, alert: ActiveAlert) -> dict[str, Any]:
    """Return the body of an alert. The name of the preset is the present one."""
    return {
        "type": "pattern.detected",
        "timestamp": datetime.fromtimestamp(delivery.recorded_at, UTC).isoformat(),
        "data": {
            "id": delivery.id,
            "event_id": delivery.event_id,
            "user_id": delivery.user,
            "preset": {"id": delivery.list_id, "name": alert.source.preset_name},
            "position": delivery.position,
            "pattern": orjson.loads(bytes(delivery.pattern)),
        },
    }
