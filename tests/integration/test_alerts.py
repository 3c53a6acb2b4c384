"""Alerts on real servers: matches are delivered, signed, once, again after failures, and to nobody else."""

import time
from collections.abc import Iterator
from itertools import pairwise
from threading import Event
from urllib.parse import urlsplit

import orjson
import pytest
from redis import Redis

from domain.codec import decode
from domain.lists import PresetDraft
from domain.user_events import AlertDelivered, AlertEnded, AlertFailed
from domain.workspace import Stamp, Workspace
from infra.alerts.addresses import AddressPolicy
from infra.alerts.deliveries import BackOff
from infra.alerts.published import STREAM
from infra.alerts.queue import QueueKeys, read_alert_status
from infra.redis.connections import connect
from infra.user_keys.key_store import UserKeys
from infra.workspaces.forgetting import forget_user
from tests.integration.alert_support import (
    LOG,
    OPERATOR,
    PRESET,
    QUICK,
    Alerts,
    Receiver,
    Request,
    verify_signature,
    wait_for_requests,
)
from tests.processes.roles import wait_until
from tests.servers import free_port
from tests.tcp_proxy import TcpProxy

OTHER = "b" * 32


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def alerts(redis: Redis) -> Iterator[Alerts]:
    alerts = Alerts(redis)
    with alerts.worker():
        yield alerts


def ended(alerts: Alerts, user: str = "alice") -> list[AlertEnded]:
    """Return the audited ends of the deliveries of a user."""
    entries = UserKeys(alerts.users).reveal(alerts.users.read_stream(f"alerts-{user}"))
    events = [decode(entry.topic, entry.event_id, entry.state) for entry in entries]
    return [event for event in events if isinstance(event, AlertEnded)]


def wait_for_ends(alerts: Alerts, number: int) -> list[AlertEnded]:
    wait_until(lambda: len(ended(alerts)) >= number, f"{number} events about deliveries")
    return ended(alerts)


def waiting(alerts: Alerts) -> int:
    return read_alert_status(alerts.redis, [LOG], time.time()).waiting


def test_a_match_is_delivered_with_a_signature_that_others_can_verify(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    alerts.detect("BEFORE")
    alerts.set_alert(receiver.url, confidence_min=0.7)
    with alerts.alerter(redis_url):
        alerts.detect("LOW", confidence=0.69)
        alerts.detect("AAPL", event_id="e-1")
        wait_for_requests(receiver, 1)
        [end] = wait_for_ends(alerts, 1)
        wait_until(lambda: waiting(alerts) == 0, "the queue is empty")
    [request] = receiver.requests
    verify_signature(alerts.secret(), request)
    data = request.data
    assert (data["event_id"], data["user_id"], data["position"]) == ("e-1", "alice", "market-0=3")
    assert data["preset"] == {"id": PRESET, "name": "preset aaaa"}
    assert data["pattern"]["symbol"] == "AAPL"
    assert request.headers["webhook-id"] == data["id"] == end.delivery_id
    assert isinstance(end, AlertDelivered)
    assert (end.detection, end.channel, end.attempts, end.status) == ("e-1", "webhook", 1, 204)
    # The secret and the URL are in no place that outlives the user.
    assert alerts.secret().encode() not in repr(alerts.redis.hgetall(QueueKeys.of(LOG).deliveries)).encode()


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
        assert waiting(alerts) == 0
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


def test_an_event_that_is_read_again_is_delivered_once(redis_url: str, alerts: Alerts, receiver: Receiver) -> None:
    alerts.set_alert(receiver.url)
    with alerts.alerter(redis_url):
        alerts.detect("AAPL", "MSFT")
        wait_for_ends(alerts, 2)
        wait_until(lambda: waiting(alerts) == 0, "the queue is empty")
    alerts.redis.hset(QueueKeys.of(LOG).state, "checkpoint", 0)
    with alerts.alerter(redis_url):
        alerts.detect("NVDA")
        wait_for_ends(alerts, 3)
    assert sorted(receiver.symbols()) == ["AAPL", "MSFT", "NVDA"]


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


def test_only_one_of_two_processes_has_a_partition_and_the_other_takes_it_over(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    alerts.set_alert(receiver.url)
    with alerts.alerter(redis_url, owner="first"):
        wait_until(lambda: alerts.redis.hget(QueueKeys.of(LOG).state, "owner") == b"first", "the first has the lease")
        with alerts.alerter(redis_url, owner="second"):
            alerts.detect("AAPL")
            wait_for_ends(alerts, 1)
            # Another owner with a higher epoch is what the first process sees after it was stalled.
            alerts.redis.hset(QueueKeys.of(LOG).state, mapping={"owner": "second", "epoch": 50, "leased_until": 0})
            alerts.detect("MSFT")
            wait_for_ends(alerts, 2)
    assert sorted(receiver.symbols()) == ["AAPL", "MSFT"]


def test_alerts_go_on_after_an_outage_of_redis(redis_url: str, alerts: Alerts, receiver: Receiver) -> None:
    alerts.set_alert(receiver.url)
    port = urlsplit(redis_url).port or 0
    with (
        TcpProxy(port) as proxy,
        connect(f"redis://127.0.0.1:{proxy.port}") as redis,
        Alerts(redis).alerter(f"redis://127.0.0.1:{proxy.port}"),
    ):
        alerts.detect("AAPL")
        wait_for_ends(alerts, 1)
        proxy.server_port = free_port()
        proxy.drop()
        wait_until(lambda: lease_ended(alerts), "the lease of the alerter has ended")
        alerts.detect("MSFT")
        proxy.server_port = port
        wait_for_ends(alerts, 2)
    assert receiver.symbols() == ["AAPL", "MSFT"]


def lease_ended(alerts: Alerts) -> bool:
    leased_until = alerts.redis.hget(QueueKeys.of(LOG).state, "leased_until")
    return int(leased_until or 0) < time.time() * 1_000


def test_a_changed_preset_changes_what_matches_and_a_removed_alert_ends_its_deliveries(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    alerts.command(lambda workspace, stamp: workspace.create_watchlist(stamp, OTHER, "Tech", ["AAPL"]))
    alerts.set_alert(receiver.url, watchlist=OTHER)
    with alerts.alerter(redis_url, BackOff(first=60.0, longest=60.0)):
        alerts.detect("MSFT", "AAPL")
        wait_for_ends(alerts, 1)
        alerts.command(lambda workspace, stamp: workspace.change_watchlist(stamp, OTHER, None, ["MSFT"]))
        alerts.detect("AAPL", "MSFT")
        wait_for_ends(alerts, 2)
        alerts.command(lambda workspace, stamp: workspace.delete_watchlist(stamp, OTHER))
        alerts.detect("MSFT", "AAPL")
        receiver.answer = lambda _: 500
        alerts.command(_change_preset)
        alerts.detect("LOW", confidence=0.5)
        alerts.detect("HIGH", confidence=0.9)
        wait_for_requests(receiver, 3)
        alerts.command(lambda workspace, stamp: workspace.remove_alert(stamp, PRESET))
        wait_until(lambda: waiting(alerts) == 0, "the waiting delivery is dropped")
        alerts.detect("HIGH", confidence=0.9)
        # A second alert shows that the detection before it was matched, and matched nothing.
        alerts.set_alert(receiver.url, "bob", OTHER)
        receiver.answer = lambda _: 200
        alerts.detect("LAST")
        wait_until(lambda: ended(alerts, "bob"), "the last detection is delivered")
    assert receiver.symbols()[:2] == ["AAPL", "MSFT"]
    assert set(receiver.symbols()[2:-1]) == {"HIGH"}
    assert receiver.symbols()[-1] == "LAST"
    assert len(ended(alerts)) == 2


def _change_preset(workspace: Workspace, stamp: Stamp) -> None:
    workspace.change_preset(stamp, PRESET, PresetDraft("Strong", {"confidence_min": 0.8}, default=False))


def test_forgetting_a_user_ends_the_alert_and_destroys_its_secret_and_its_history(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    alerts.set_alert(receiver.url)
    with alerts.alerter(redis_url, BackOff(first=60.0, longest=60.0)):
        alerts.detect("AAPL")
        wait_for_ends(alerts, 1)
        receiver.answer = lambda _: 500
        alerts.detect("MSFT")
        wait_until(lambda: waiting(alerts) == 1 and len(receiver.requests) == 2, "a delivery waits for an attempt")
        forgetting = forget_user(alerts.redis, alerts.users, None, "alice", OPERATOR)
        wait_until(lambda: waiting(alerts) == 0, "the waiting delivery is dropped")
        alerts.detect("NVDA")
    assert forgetting.encrypted_events == 3
    assert UserKeys(alerts.users).read(["alice"])["alice"].secret == b""
    assert ended(alerts) == []
    assert receiver.symbols() == ["AAPL", "MSFT"]


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


def test_a_push_alert_is_published_for_its_user(redis_url: str, alerts: Alerts) -> None:
    alerts.set_alert(None)
    with alerts.alerter(redis_url):
        alerts.detect("AAPL", event_id="e-1")
        [end] = wait_for_ends(alerts, 1)
    [(_, fields)] = alerts.redis.xrange(STREAM)
    content = orjson.loads(fields[b"alert"])
    assert (fields[b"user"], content["type"], content["data"]["event_id"]) == (b"alice", "pattern.detected", "e-1")
    assert (type(end), end.channel, end.attempts, end.status) == (AlertDelivered, "push", 1, None)


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


def test_the_status_names_what_waits_and_what_has_happened(redis_url: str, alerts: Alerts, receiver: Receiver) -> None:
    receiver.answer = lambda request: 200 if request.symbol == "AAPL" else 500
    alerts.set_alert(receiver.url)
    with alerts.alerter(redis_url, BackOff(first=60.0, longest=60.0)):
        alerts.detect("AAPL", "MSFT")
        wait_until(lambda: waiting(alerts) == 1 and ended(alerts), "one delivery waits")
        wait_until(lambda: read_alert_status(alerts.redis, [LOG], 0).outcomes["retry"] == 1, "one attempt has failed")
        status = read_alert_status(alerts.redis, [LOG], time.time())
    assert status.outcomes == {"delivered": 1, "failed": 0, "retry": 1}
    assert 0 < status.oldest_seconds < 60
    assert status.lag_events in (0, 2)
