"""Alerts on real servers: matches are delivered once and signed, follow their presets, and are audited."""

import time
from urllib.parse import urlsplit

import orjson

from domain.lists import PresetDraft
from domain.partitions import Partitions
from domain.user_events import AlertDelivered
from domain.workspace import Stamp, Workspace
from infra.alerts.deliveries import BackOff
from infra.alerts.published import STREAM
from infra.alerts.queue import QueueKeys, read_alert_status
from infra.log.event_log import EventLog
from infra.log.maintenance import trim
from infra.log.partitions import fix_partitions
from infra.redis.connections import connect
from infra.user_keys.key_store import UserKeys
from infra.workspaces.forgetting import forget_user
from tests.events import new_events, pattern_detected
from tests.integration.alert_support import (
    LOG,
    OPERATOR,
    OTHER,
    PRESET,
    Alerts,
    Receiver,
    ended,
    verify_signature,
    wait_for_ends,
    wait_for_requests,
    waiting,
)
from tests.processes.roles import wait_until
from tests.tcp_ports import free_port
from tests.tcp_proxy import TcpProxy


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


def test_only_one_of_two_processes_has_a_partition_and_the_other_takes_it_over(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    alerts.set_alert(receiver.url)
    with alerts.alerter(redis_url, owner="first"):
        wait_until(lambda: alerts.redis.hget(QueueKeys.of(LOG).state, "owner") == b"first", "the first has the lease")
        with alerts.alerter(redis_url, owner="second"):
            alerts.detect("AAPL")
            wait_for_ends(alerts, 1)
            wait_until(lambda: waiting(alerts) == 0, "the first has noted the end")
            # Another owner with a higher epoch is what the first process sees after it was stalled.
            alerts.redis.hset(QueueKeys.of(LOG).state, mapping={"owner": "second", "epoch": 50, "leased_until": 0})
            alerts.detect("MSFT")
            wait_for_ends(alerts, 2)
    assert sorted(receiver.symbols()) == ["AAPL", "MSFT"]


def test_detections_that_neither_the_log_nor_an_archive_has_are_passed_over(
    redis_url: str, alerts: Alerts, receiver: Receiver
) -> None:
    alerts.set_alert(receiver.url)
    alerts.detect("A", "B", "C", "D")
    assert trim(alerts.market, upto=3, surplus=3, oldest=0.0) == 3
    alerts.redis.hset(QueueKeys.of(LOG).state, "checkpoint", 1)
    with alerts.alerter(redis_url):
        wait_for_ends(alerts, 1)
    assert receiver.symbols() == ["D"]


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
        # A delivery whose end is recorded and that is still in the queue would be delivered again.
        wait_until(lambda: waiting(alerts) == 0, "the delivery has left the queue")
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


def test_a_push_alert_is_published_for_its_user(redis_url: str, alerts: Alerts) -> None:
    alerts.set_alert(None)
    with alerts.alerter(redis_url):
        alerts.detect("AAPL", event_id="e-1")
        [end] = wait_for_ends(alerts, 1)
    [(_, fields)] = alerts.redis.xrange(STREAM)
    content = orjson.loads(fields[b"alert"])
    assert (fields[b"user"], content["type"], content["data"]["event_id"]) == (b"alice", "pattern.detected", "e-1")
    assert (type(end), end.channel, end.attempts, end.status) == (AlertDelivered, "push", 1, None)


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


def test_detections_in_an_added_partition_are_matched(redis_url: str, alerts: Alerts, receiver: Receiver) -> None:
    fix_partitions(alerts.redis, 1)
    alerts.set_alert(receiver.url, confidence_min=0.7)
    with alerts.alerter(redis_url):
        alerts.detect("BEFORE")
        wait_for_requests(receiver, 1)
        alerts.logs().raise_partitions(Partitions(2, 1))
        detections = new_events([pattern_detected(symbol="ADDED")])
        EventLog(alerts.redis, "market-1").append(detections, partitions=Partitions(2, 1))
        alerts.detect("BEFORE", detected_at=time.time())
        wait_for_requests(receiver, 3)
    assert sorted(receiver.symbols()) == ["ADDED", "BEFORE", "BEFORE"]
