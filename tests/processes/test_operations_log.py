"""The senders of events, in the origin, and the commands of operators, in the log ``operations``."""

from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from infra.access.tokens import Token, create_token
from infra.operations.journal import local_operator
from infra.postgres.database import Database
from readapi.http.identities import SCOPES
from tests.processes.api_service import api, detection, post
from tests.processes.archiving_service import audit_events, wait_until_archived
from tests.processes.roles import running_role, tickview, tickview_json

UNREADABLE = {"event_type": "pattern_detected", "source": "tests", "data": {"symbol": "AAPL"}}


def refused_letter(client: httpx.Client) -> str:
    response = client.post("/api/events", json=UNREADABLE)
    assert response.status_code == 422
    return str(response.json()["refused"][0]["dead_letter"])


def commands(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["data"]["command"], event["data"]["target"]) for event in events]


@pytest.fixture
def token(tmp_path: Path) -> tuple[str, Token]:
    """The text and the stored part of a token with all scopes, in the file tokens.json."""
    return create_token(tmp_path / "tokens.json", "anna", SCOPES, None)


def test_events_and_commands_name_the_token_and_are_hashed(
    redis_url: str, database: Database, tmp_path: Path, token: tuple[str, Token]
) -> None:
    text, stored = token
    tokens_file = tmp_path / "tokens.json"
    settings = {"redis_url": redis_url, "postgres_dsn": database.dsn}
    anna = {"via": "http", "subject": "anna", "token": stored.id, "dead_letter": None, "percent": None, "trace": None}
    with (
        running_role("archive", verify_every=0, **settings),
        running_role("project", **settings),
        api(tokens_file=tokens_file, wait_seconds=30, **settings) as client,
    ):
        client.headers["Authorization"] = f"Bearer {text}"
        header = post(client, [detection("AAPL")])
        assert client.get("/api/patterns/scan", headers=header).status_code == 200
        letters = [refused_letter(client)]
        assert client.post(f"/api/dead-letters/{letters[0]}/retry").status_code == 422
        assert client.delete(f"/api/dead-letters/{letters[0]}").status_code == 204
        assert client.delete(f"/api/dead-letters/{letters[0]}").status_code == 404
        assert client.post("/api/projections/nothing/replay").status_code == 404
        assert client.post("/api/projections/patterns/rollback").status_code == 409
        assert client.post("/api/projections/patterns/replay", json={"hold": True}).status_code == 202
        assert client.post("/api/projections/patterns/parked/AAPL/retry").status_code == 404
        letters.append(refused_letter(client))
        assert tickview("dead-letters", "discard", letters[1], **settings).returncode == 0
        created = tickview_json(
            *("token", "create", "--subject", "bert", "--scope", "read"), tokens_file=tokens_file, **settings
        )
        assert tickview("token", "revoke", created["id"], tokens_file=tokens_file, **settings).returncode == 0
        wait_until_archived(client)

        assert client.post("/api/users/watchlists", json={"name": "Tech", "symbols": []}).status_code == 201
        [created_list] = audit_events(client, stream="user-anna")
        assert (created_list["origin"], created_list["source"]) == (anna, "anna")
        [event] = audit_events(client, stream="symbol-AAPL")
        assert (event["origin"], event["source"]) == (anna, "tests")
        events = audit_events(client, log="operations")
        assert audit_events(client, "streams/operations") == events
        client.headers["Authorization"] = f"Bearer {create_token(tokens_file, 'carl', ['read'], None)[0]}"
        assert_forbidden(client, "/api/audit/streams/operations")
    assert commands(events) == [
        ("retry-dead-letter", letters[0]),
        ("discard-dead-letter", letters[0]),
        ("rollback", "patterns"),
        ("replay", "patterns"),
        ("retry-parked", "patterns"),
        ("discard-dead-letter", letters[1]),
        ("create-token", created["id"]),
        ("revoke-token", created["id"]),
    ]
    assert all((event["origin"], event["source"]) == (anna, "anna") for event in events[:5])
    local = local_operator().subject
    assert all(event["origin"]["subject"] == event["source"] == local for event in events[5:])
    assert all(event["origin"]["via"] == "cli" for event in events[5:])
    assert events[6]["data"]["details"]["scopes"] == ["read"]
    assert created["token"] not in str(events)
    assert all(event["hash"] for event in events)

    printed = tickview_json("history", "operations", **settings)["events"]
    assert [event["event_id"] for event in printed] == [event["event_id"] for event in events]
    with database.connection() as connection:
        connection.execute(
            "UPDATE tickview.events SET origin = replace(origin, 'anna', 'carl') WHERE topic LIKE '%CommandGiven'"
        )
    verified = tickview("audit", "verify", "--log", "operations", "--json", **settings)
    assert verified.returncode == 3
    [log] = orjson.loads(verified.stdout)["logs"]
    assert (log["misfit"]["position"], log["misfit"]["kind"]) == (1, "changed")


def assert_forbidden(client: httpx.Client, path: str) -> None:
    """Assert that the path needs the scope ``operate``, as soon as the API knows the new token."""
    response = client.get(path)
    while response.status_code == 401:
        response = client.get(path)
    assert (response.status_code, response.json()["scope"]) == (403, "operate")


def test_a_token_can_be_revoked_without_redis(tmp_path: Path, token: tuple[str, Token]) -> None:
    _, stored = token
    revoked = tickview(
        "token", "revoke", stored.id, redis_url="redis://127.0.0.1:1", tokens_file=tmp_path / "tokens.json"
    )
    assert revoked.returncode == 0
    assert b"not recorded in the log operations" in revoked.stderr
