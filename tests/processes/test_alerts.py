"""Alerts of the real service: set over HTTP, delivered to their user alone, audited, and safe from kills."""

import time
from typing import Any

import httpx
from websockets.sync.client import ClientConnection

from tests.integration.alert_support import Receiver, verify_signature, wait_for_requests
from tests.processes.api_service import detection, post, service
from tests.processes.archiving_service import archiving_service, audit_events, metric, wait_until_archived
from tests.processes.push_clients import receive, websocket
from tests.processes.roles import running_role, start, wait_until

ALICE, BOB = {"X-User-ID": "alice"}, {"X-User-ID": "bob"}
PRESETS = "/api/users/filter-presets"


def create_preset(client: httpx.Client, user: dict[str, str] = ALICE, **parameters: Any) -> str:
    """Create a preset and return the path of its alert."""
    body = {"name": f"Strong {time.time()}", "parameters": parameters}
    response = client.post(PRESETS, json=body, headers=user)
    assert response.status_code == 201, response.text
    return f"{PRESETS}/{response.json()['preset']['id']}/alert"


def test_alerts_reach_the_webhook_and_the_live_connections_of_their_user_and_are_audited(
    redis_url: str, database_url: str
) -> None:
    """The alerter is killed between the match and the delivery. The next one delivers."""
    options: dict[str, Any] = {"lease_seconds": 0.5, "alert_private_addresses": True}
    with (
        Receiver() as receiver,
        archiving_service(redis_url, database_url, alert_private_addresses=True) as client,
    ):
        hook, push = create_preset(client, confidence_min=0.7), create_preset(client, symbols=["AAPL"])
        set_hook = client.put(hook, json={"webhook": receiver.url}, headers=ALICE)
        assert set_hook.status_code == 201, set_hook.text
        secret = set_hook.json()["alert"]["secret"]
        assert client.put(push, json={"push": True}, headers=ALICE).status_code == 201
        receiver.answer = lambda _: 500
        alerter = start("alert", redis_url=redis_url, postgres_dsn=database_url, **options)
        with (
            websocket(client, "/ws/patterns?symbols=MSFT", additional_headers=ALICE) as own,
            websocket(client, "/ws/patterns?symbols=AAPL", additional_headers=BOB) as others,
        ):
            try:
                assert receive(own)["type"] == receive(others)["type"] == "ready"
                post(client, [detection("AAPL")])
                alert = receive_alert(own)
                assert alert["data"]["pattern"]["symbol"] == "AAPL"
                assert alert["data"]["user_id"] == "alice"
                wait_for_requests(receiver, 1)
            finally:
                alerter.kill()
                alerter.wait()
            post(client, [detection("MSFT")])
            receiver.answer = lambda _: 200
            with running_role("alert", redis_url=redis_url, postgres_dsn=database_url, **options):
                wait_until(lambda: {"AAPL", "MSFT"} <= accepted(receiver), "both alerts are delivered")
                wait_until(lambda: alerters(client) == 1, "health shows the alerter")
                wait_until(lambda: metric(client, "tickview_alerts_waiting") == 0, "nothing waits")
                assert metric(client, 'tickview_alerts_attempts_total{outcome="delivered"}') == 3
            # Bob sees the pattern as a change, and nothing of the alert.
            messages = [receive(others)["type"]]
            assert messages == ["changes"]
        for request in receiver.requests:
            verify_signature(secret, request)
        wait_until_archived(client)
        own_events = [event["type"] for event in audit(client, "user-alice")]
        assert own_events == ["PresetCreated", "PresetCreated", "AlertSet", "AlertSet"]
        ends = audit(client, "alerts-alice")
        assert sorted((event["type"], event["data"]["channel"]) for event in ends) == [
            ("AlertDelivered", "push"),
            ("AlertDelivered", "webhook"),
            ("AlertDelivered", "webhook"),
        ]
        assert secret not in client.get("/api/audit/streams/user-alice", headers=ALICE).text


def test_an_alert_is_set_shown_replaced_and_removed_over_http(redis_url: str) -> None:
    with service(redis_url, wait_seconds=30) as client:
        path = create_preset(client)
        assert client.get(path, headers=ALICE).status_code == 404
        for body, reason in (
            ({"webhook": "https://127.0.0.1/hook"}, "has an address that is not public"),
            ({"webhook": "https://[::ffff:10.0.0.1]/hook"}, "has an address that is not public"),
            ({"webhook": "http://8.8.8.8/hook"}, "should begin with https://"),
            ({"webhook": "https://alice:secret@8.8.8.8/hook"}, "no user and no password"),
            ({"webhook": "https://8.8.8.8/hook", "push": True}, "but not both"),
            ({}, "but not both"),
        ):
            refused = client.put(path, json=body, headers=ALICE)
            assert refused.status_code == 422, refused.text
            assert reason in refused.json()["errors"][0]["reason"]
        created = client.put(path, json={"webhook": "https://8.8.8.8/hook"}, headers={**ALICE, "If-Match": '"0"'})
        assert (created.status_code, created.headers["etag"]) == (201, '"1"')
        first = created.json()["alert"]
        assert first["secret"].startswith("whsec_")
        position = {"TickView-Min-Position": created.headers["TickView-Position"]}
        shown = client.get(path, headers={**ALICE, **position})
        assert shown.json() == {"alert": {name: first[name] for name in first if name != "secret"}}
        assert shown.json()["alert"]["push"] is False
        assert client.get(path, headers=BOB).status_code == client.delete(path, headers=BOB).status_code == 404
        replaced = client.put(path, json={"webhook": "https://8.8.8.8/hook"}, headers={**ALICE, "If-Match": '"1"'})
        second = replaced.json()["alert"]
        assert (replaced.status_code, second["version"]) == (200, 2)
        assert second["secret"] != first["secret"]
        assert second["created_at"] == first["created_at"]
        outdated = client.put(path, json={"push": True}, headers={**ALICE, "If-Match": '"1"'})
        assert (outdated.status_code, outdated.headers["etag"]) == (412, '"2"')
        push = client.put(path, json={"push": True}, headers=ALICE).json()["alert"]
        assert (push["push"], push["webhook"], "secret" in push) == (True, None, False)
        assert client.delete(path, headers={**ALICE, "If-Match": '"2"'}).status_code == 412
        removed = client.delete(path, headers=ALICE)
        assert removed.status_code == 204
        position = {"TickView-Min-Position": removed.headers["TickView-Position"]}
        assert client.get(path, headers={**ALICE, **position}).status_code == 404
        assert client.delete(path, headers=ALICE).status_code == 404
        assert client.put(path.replace("/alert", "0/alert"), json={"push": True}, headers=ALICE).status_code == 404


def alerters(client: httpx.Client) -> int:
    """Return the number of processes of the role in health, which names the role after its first heartbeat."""
    roles = client.get("/api/health").json()["roles"]
    return int(roles["alert"]["processes"]) if "alert" in roles else 0


def audit(client: httpx.Client, stream: str) -> list[dict[str, Any]]:
    return audit_events(client, f"streams/{stream}")


def accepted(receiver: Receiver) -> set[str]:
    """Return the symbols of the requests after the first one."""
    return set(receiver.symbols()[1:])


def receive_alert(connection: ClientConnection) -> dict[str, Any]:
    """Wait for the next alert. Heartbeats and changes may come before it."""
    while (message := receive(connection))["type"] != "alert":
        assert message["type"] in ("changes", "heartbeat"), message
    alert: dict[str, Any] = message["alert"]
    assert "id" not in message
    return alert
