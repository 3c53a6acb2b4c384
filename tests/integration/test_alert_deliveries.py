"""Deliveries of alerts on real servers: failures, slow receivers, crashes and refused addresses."""

import time
from itertools import pairwise
from threading import Event

import pytest

from domain.user_events import AlertDelivered, AlertFailed
from infra.alerts.addresses import AddressPolicy
from infra.alerts.deliveries import BackOff
from tests.integration.alert_support import (
    OTHER,
    QUICK,
    Alerts,
    Receiver,
    Request,
    ended,
    verify_signature,
    wait_for_ends,
    wait_for_requests,
    waiting,
)
from tests.processes.roles import wait_until


def test_a_failed_delivery_is_repeated_with_growing_waits_and_given_up_in_the_end(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    times: list[float] = []

    def answer(request: Request) -> int:
        times.append(time.monotonic())
        return 500 if request.symbol == "DEAD" or len(receiver.requests) < 3 else 302

    receiver.answer = answer
    alerts.set_alert(receiver.url)
    back_off = BackOff(first=0.1, factor=3.0, longest=0.3, attempts=4, jitter=0.0)
    with alerts.alerter(redis_url, back_off):
        alerts.detect("DEAD")
        [end] = wait_for_ends(alerts, 1)
        wait_until(lambda: waiting(alerts) == 0, "the delivery leaves the queue behind its end")
    assert isinstance(end, AlertFailed)
    assert (end.attempts, end.status, end.reason) == (4, 500, "the webhook answered 500")
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    waits = [after - before for before, after in pairwise(times)]
    assert len(waits) == 3
    assert all(wait >= least for wait, least in zip(waits, (0.1, 0.3, 0.3), strict=True))


def test_a_delivery_succeeds_after_failures_and_redirects_are_not_followed(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    statuses = iter((503, 302, 200))
    receiver.answer = lambda _: next(statuses)
    alerts.set_alert(receiver.url)
    with alerts.alerter(redis_url):
        alerts.detect("AAPL")
        [end] = wait_for_ends(alerts, 1)
    assert isinstance(end, AlertDelivered)
    assert (end.attempts, end.status) == (3, 200)
    assert [request.path for request in receiver.requests] == ["/hook"] * 3
    for request in receiver.requests:
        verify_signature(alerts.secret(), request)


def test_a_receiver_that_answers_410_gets_no_further_attempt(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    receiver.answer = lambda _: 410
    alerts.set_alert(receiver.url)
    with alerts.alerter(redis_url):
        alerts.detect("AAPL")
        [end] = wait_for_ends(alerts, 1)
    assert (type(end), end.attempts, end.status) == (AlertFailed, 1, 410)


def test_a_receiver_that_hangs_delays_neither_other_receivers_nor_other_users(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    released = Event()
    with Receiver() as hanging:
        hanging.answer = lambda _: (released.wait(30), 200)[1]
        alerts.set_alert(hanging.url)
        alerts.set_alert(receiver.url, "bob", OTHER)
        with alerts.alerter(redis_url):
            symbols = [f"S{number}" for number in range(30)]
            alerts.detect(*symbols)
            wait_for_requests(receiver, len(symbols))
            wait_until(lambda: len(ended(alerts, "bob")) == len(symbols), "all alerts of bob are recorded")
            # No more requests than a lane allows are under way to the receiver that hangs.
            assert len(hanging.requests) == 4
            assert ended(alerts) == []
            released.set()
            wait_for_ends(alerts, len(symbols))
    assert sorted(receiver.symbols()) == sorted(hanging.symbols()) == sorted(symbols)


def test_what_was_matched_before_a_crash_is_delivered_by_the_next_process(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    receiver.answer = lambda _: 500
    alerts.set_alert(receiver.url)
    patient = BackOff(first=0.5, factor=1.0, longest=0.5, attempts=100)
    with alerts.alerter(redis_url, patient, owner="first"):
        alerts.detect("AAPL")
        wait_for_requests(receiver, 1)
    assert waiting(alerts) == 1
    alerts.detect("MSFT")
    receiver.answer = lambda _: 200
    with alerts.alerter(redis_url, owner="second"):
        wait_for_ends(alerts, 2)
    delivered = [end for end in ended(alerts) if isinstance(end, AlertDelivered)]
    assert {end.pattern_id.split(":")[0] for end in delivered} == {"AAPL", "MSFT"}


def test_a_request_whose_answer_was_not_noted_is_sent_again_with_the_same_id(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    ended_process = Event()
    receiver.answer = lambda _: (ended_process.wait(30), 200)[1]
    alerts.set_alert(receiver.url)
    with alerts.alerter(redis_url, owner="first"):
        alerts.detect("AAPL")
        wait_for_requests(receiver, 1)
    ended_process.set()
    with alerts.alerter(redis_url, owner="second"):
        [end] = wait_for_ends(alerts, 1)
    assert [request.headers["webhook-id"] for request in receiver.requests] == [end.delivery_id] * 2


def test_a_private_address_is_not_called_although_the_alert_exists(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    alerts.set_alert(receiver.url.replace("http:", "https:"))
    alerts.set_alert(receiver.url, "bob", OTHER)
    with alerts.alerter(redis_url, QUICK._replace(attempts=2), AddressPolicy()):
        alerts.detect("AAPL")
        [end] = wait_for_ends(alerts, 1)
        wait_until(lambda: ended(alerts, "bob"), "the other alert is given up")
    assert receiver.requests == []
    assert isinstance(end, AlertFailed)
    assert (end.attempts, end.status) == (2, None)
    assert "has an address that is not public" in end.reason


def test_matches_beyond_the_bound_of_waiting_deliveries_are_given_up_and_recorded(
    redis_url: str, alerts: Alerts, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.alerting.partition.MAX_WAITING", 3)
    receiver.answer = lambda _: 500
    alerts.set_alert(receiver.url)
    with alerts.alerter(redis_url, BackOff(first=60.0, longest=60.0)):
        alerts.detect("A", "B", "C", "D", "E")
        failed = wait_for_ends(alerts, 2)
        wait_for_requests(receiver, 3)
    assert {end.pattern_id[0] for end in failed} == {"D", "E"}
    assert all(isinstance(end, AlertFailed) and end.attempts == 0 for end in failed)
    assert waiting(alerts) == 3
