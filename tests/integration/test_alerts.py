"""Alerts on real servers: matches are delivered once, signed, again after failures, and to nobody else."""

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.integration.alert_support import Alerts, Receiver, verify_signature, wait_for_requests


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def alerts(redis: Redis) -> Iterator[Alerts]:
    alerts = Alerts(redis)
    with alerts.worker():
        yield alerts


def test_a_match_is_delivered_with_a_signature_that_others_can_verify(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    alerts.detect("BEFORE")
    alerts.set_alert(receiver.url, confidence_min=0.8)
    with alerts.alerter(redis_url):
        alerts.detect("LOW", confidence=0.79)
        alerts.detect("AAPL", confidence=0.8, event_id="e-1")
        wait_for_requests(receiver, 1)
    [request] = receiver.requests
    verify_signature(alerts.secret(), request)
    assert request.data["event_id"] == "e-1"
    assert (request.data["user_id"], request.data["preset"]["name"]) == ("alice", "preset aaaa")
    assert request.data["pattern"]["symbol"] == "AAPL"
