"""Verification, heads, and the history of lists and patterns over HTTP, on a running service with an archive."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import httpx
import psycopg
import pytest

from infra.access.tokens import create_token
from tests import servers
from tests.plain_http import PLAIN_HTTP
from tests.processes.api_service import detection, post, service
from tests.processes.archiving_service import wait_until_archived
from tests.processes.roles import running_role, wait_until


class AuditedService(NamedTuple):
    """A service with an archive and signed heads, and the clients of an operator and of a user."""

    operator: httpx.Client
    anna: httpx.Client
    dsn: str


@pytest.fixture(scope="module")
def audited(postgres_18_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditedService]:
    folder = tmp_path_factory.mktemp("audited")
    key, tokens = folder / "key.pem", folder / "tokens.json"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    operator, _ = create_token(tokens, "olaf", ["read", "produce", "operate"], None)
    anna, _ = create_token(tokens, "anna", ["read", "write"], None)
    with ExitStack() as stack:
        redis_url = stack.enter_context(servers.valkey()).connection_url
        dsn = stack.enter_context(servers.new_database(postgres_18_dsn, servers.TEMPLATE))
        settings: dict[str, Any] = {"postgres_dsn": dsn, "tokens_file": tokens, "rate_limit": 0, "audit_key": key}
        # The archiver's own verification would replace the result that the tests compare.
        stack.enter_context(running_role("archive", redis_url=redis_url, verify_every=0, **settings))
        client = stack.enter_context(service(redis_url, **settings, wait_seconds=30))
        client.headers["Authorization"] = f"Bearer {operator}"
        headers = {"Authorization": f"Bearer {anna}"}
        user = stack.enter_context(
            httpx.Client(base_url=client.base_url, headers=headers, timeout=30, verify=PLAIN_HTTP)
        )
        assert client.post("/api/events", json=[detection("AUDITED"), detection("OTHER")]).status_code == 201
        wait_until_archived(client)
        yield AuditedService(client, user, dsn)


def finished(client: httpx.Client, path: str, member: str) -> Any:
    """Wait for the end of a job, and return its state."""

    def state() -> Any:
        job = client.get(path).json()[member]
        return job if job["finished_at"] else None

    return wait_until(state, f"the job of {path} has ended")


def verified(client: httpx.Client, **options: Any) -> Any:
    started = client.post("/api/audit/verify", json=options)
    assert started.status_code == 202, started.text
    assert started.json()["run"]["finished_at"] is None
    return finished(client, "/api/audit/verify", "run")


def recorded_logs(client: httpx.Client) -> Any:
    return client.get("/api/audit/verification").json()["verification"]["logs"]


def test_an_operator_verifies_the_archive_with_progress(audited: AuditedService) -> None:
    client = audited.operator
    assert client.get("/api/audit/verify").json() == {"run": None}
    run = verified(client)
    assert (run["error"], run["percent"], run["result"]["ok"]) == (None, 100, True)
    assert {part["name"] for part in run["parts"]} >= {log["log"] for log in run["result"]["logs"] if log["events"]}
    assert all(part["done"] == part["total"] for part in run["parts"])
    assert recorded_logs(client) == run["result"]["logs"], "the result for the whole archive is recorded"
    part = verified(client, log="operations", **{"from": 1, "to": "1"})
    assert (part["log"], part["since"], part["until"]) == ("operations", "1", "1")
    assert [(log["log"], log["events"]) for log in part["result"]["logs"]] == [("operations", 1)]
    assert recorded_logs(client) == run["result"]["logs"], "the result for a part is not recorded"
    failed = verified(client, log="market-9")
    assert failed["result"] is None
    assert "no log market-9" in failed["error"]
    commands = client.get("/api/audit/streams/operations").json()["events"]
    given = [event["data"] for event in commands if event["data"]["command"] == "verify-archive"]
    assert [(each["target"], each["source"]) for each in given] == [
        ("all logs", "olaf"),
        ("operations", "olaf"),
        ("market-9", "olaf"),
    ]


def test_a_second_verification_waits_for_the_first(audited: AuditedService) -> None:
    client = audited.operator
    answers = [client.post("/api/audit/verify") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 409]
    assert answers[1].json()["type"] == "urn:tickview:problem:under-way"
    finished(client, "/api/audit/verify", "run")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"from": "yesterday"}, "from should be a position"),
        ({"from": 0}, "from should be a position from 1"),
        ({"from": 9, "to": 8}, "to should not be before from"),
        ({"logs": "users"}, "known: log, from, to"),
    ],
)
def test_a_wrong_range_is_refused(audited: AuditedService, body: Any, reason: str) -> None:
    refused = audited.operator.post("/api/audit/verify", json=body)
    assert refused.status_code == 400
    assert reason in refused.json()["detail"]


def test_heads_are_taken_signed_and_checked(audited: AuditedService) -> None:
    client = audited.operator
    heads = client.get("/api/audit/head").json()
    assert heads["signature"]
    assert {head["log"] for head in heads["heads"]} >= {"operations"}

    def checked(content: Any) -> Any:
        assert client.post("/api/audit/check", json=content).status_code == 202
        return finished(client, "/api/audit/check", "check")

    check = checked(heads)
    assert (check["error"], check["result"]["ok"], check["result"]["signature"]) == (None, True, "valid")
    assert all(head["extends"] for head in check["result"]["heads"])
    first = {**heads["heads"][0], "hash": "0" * 64}
    forged = checked({**heads, "heads": [first, *heads["heads"][1:]]})["result"]
    assert (forged["ok"], forged["signature"], forged["heads"][0]["extends"]) == (False, "forged", False)
    refused = client.post("/api/audit/check", json={"heads": [], "taken_at": "soon"})
    assert refused.status_code == 400


def test_a_changed_event_is_named_and_its_log_has_no_head(audited: AuditedService) -> None:
    client = audited.operator
    with psycopg.connect(audited.dsn) as connection:
        change = "UPDATE tickview.events SET source = %s WHERE log = 'operations' AND position = 1"
        connection.execute(change, ["mallory"])
        connection.commit()
        run = verified(client, log="operations")
        [log] = run["result"]["logs"]
        assert (run["result"]["ok"], log["misfit"]["position"], log["misfit"]["kind"]) == (False, 1, "changed")
        connection.execute(change, ["olaf"])


def test_the_events_of_a_list_are_those_of_its_owner(audited: AuditedService) -> None:
    anna, operator = audited.anna, audited.operator
    other = anna.post("/api/users/watchlists", json={"name": "Other", "symbols": ["X"]}).json()["watchlist"]
    path = f"/api/users/watchlists/{other['id']}"
    mine = anna.post("/api/users/watchlists", json={"name": "Mine", "symbols": ["A"]}).json()["watchlist"]
    assert anna.put(f"/api/users/watchlists/{mine['id']}", json={"symbols": ["A", "B"]}).status_code == 200
    assert anna.delete(path).status_code == 204
    history = f"/api/audit/lists/{mine['id']}"
    events = anna.get(history).json()["events"]
    assert [event["type"] for event in events] == ["WatchlistCreated", "WatchlistChanged"]
    assert events[1]["data"]["symbols"] == ["A", "B"]
    page = anna.get(f"{history}?limit=1").json()
    rest = anna.get(f"{history}?limit=1&cursor={page['next']}").json()
    assert [event["type"] for event in (*page["events"], *rest["events"])] == [event["type"] for event in events]
    assert [event["type"] for event in anna.get(f"/api/audit/lists/{other['id']}").json()["events"]] == [
        "WatchlistCreated",
        "WatchlistDeleted",
    ]
    assert operator.get(history).status_code == 404
    assert operator.get(f"{history}?user=anna").json()["events"][0]["data"]["name"] == "Mine"
    refused = anna.get(f"{history}?user=olaf")
    assert (refused.status_code, refused.json()["scope"]) == (403, "operate")


def test_a_pattern_that_is_no_longer_active_has_its_events(audited: AuditedService) -> None:
    client = audited.operator
    message = detection("ENDED")
    [row] = client.get("/api/patterns/scan?symbols=ENDED", headers=post(client, [message])).json()["patterns"]
    ended = {
        "event_type": "pattern_expired",
        "source": "tests",
        "timestamp": message["timestamp"],
        "data": {name: message["data"][name] for name in ("symbol", "pattern")}
        | {"detected_at": message["data"]["timestamp"]},
    }
    assert client.get(f"/api/patterns/{row['id']}", headers=post(client, [ended])).status_code == 404
    events = client.get(f"/api/audit/patterns/{row['id']}").json()["events"]
    assert [event["type"] for event in events] == ["PatternDetected", "PatternExpired"]
    assert client.get("/api/audit/patterns/nothing").status_code == 404
    assert client.get("/api/audit/patterns/NOBODY:Doji:daily:1").status_code == 404


def test_operations_of_auditors_need_the_scope(audited: AuditedService) -> None:
    for path in ("/api/audit/verify", "/api/audit/head", "/api/audit/check"):
        assert audited.anna.get(path).status_code == 403
