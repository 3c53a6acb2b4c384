"""The alerts of filter presets as values, and the effect of events on them."""

from collections.abc import Mapping
from dataclasses import dataclass

from domain.list_rules import changed_list
from domain.user_events import AlertEvent, AlertSet

MAX_ALERTS = 20
"""Highest number of alerts of one user."""


@dataclass(frozen=True)
class Alert:
    """The alert of a filter preset: every later detection that matches the preset is announced to the user."""

    webhook: str | None
    """URL that receives the alerts. None: they go to the user's live connections."""
    salt: str
    """Random hexadecimal digits, from which the secret of the webhook is derived."""
    created_at: float
    """Time of creation in seconds since the epoch. Detections that were recorded earlier do not count."""
    updated_at: float
    """Time of the last change in seconds since the epoch."""
    version: int = 1
    """Number of changes, from 1 for the creation."""


def apply_alert_event(alerts: Mapping[str, Alert], event: AlertEvent) -> dict[str, Alert]:
    """Return the alerts of a user, by the id of their preset, after one more event."""
    key, at = event.list_id, event.occurred_at
    if not isinstance(event, AlertSet):
        return {list_id: alert for list_id, alert in alerts.items() if list_id != key}
    if key in alerts:
        return {**alerts, key: changed_list(alerts[key], at, webhook=event.webhook, salt=event.salt)}
    return {**alerts, key: Alert(event.webhook, event.salt, at, at)}
