"""Fixtures of several files of this folder."""

from collections.abc import Iterator

import pytest
from redis import Redis

from tests.integration.alert_support import Alerts, Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver of webhooks on loopback."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def alerts(redis: Redis) -> Iterator[Alerts]:
    """The logs from which alerts follow, with a worker that folds them."""
    alerts = Alerts(redis)
    with alerts.worker():
        yield alerts
