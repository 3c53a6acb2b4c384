"""The API without authentication: full access from this machine, no access from elsewhere. Also ``tickview token``."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from tests import servers
from tests.processes.api_service import api
from tests.processes.push_clients import receive, websocket
from tests.processes.roles import tickview


@pytest.fixture(scope="module")
def client(valkey_url: str) -> Iterator[httpx.Client]:
    with api(valkey_url) as client:
        yield client


def test_every_client_has_all_scopes_and_may_choose_its_user(client: httpx.Client) -> None:
    assert client.get("/api/dead-letters").status_code == 200
    assert "securitySchemes" not in client.get("/openapi.json").json()["components"]
    assert client.get("/api/patterns/scan", headers={"X-User-ID": "anna"}).status_code == 200
    for name in ("", "two words", "a" * 129, "line\tend", "ünlaut"):
        refused = client.get("/api/patterns/scan", headers={"X-User-ID": name.encode()})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "X-User-ID"), name


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1", "a@127.0.0.1"]
)
def test_a_foreign_host_name_is_refused(client: httpx.Client, host: str) -> None:
    refused = client.get("/api/patterns/scan", headers={"Host": host})
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:tickview:problem:not-local")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_every_name_of_this_machine_is_accepted(client: httpx.Client, host: str) -> None:
    assert client.get("/api/patterns/scan", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[", "file://"])
def test_a_page_of_another_origin_changes_nothing(client: httpx.Client, origin: str) -> None:
    refused = client.post("/api/projections/patterns/rollback", headers={"Origin": origin})
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:tickview:problem:foreign-origin")
    with pytest.raises(InvalidStatus) as closed:
        websocket(client, "/ws", origin=origin)
    assert closed.value.response.status_code == 403


def test_a_page_of_the_own_origin_reads_and_changes(client: httpx.Client) -> None:
    own = str(client.base_url).rstrip("/")
    assert client.post("/api/projections/absent/rollback", headers={"Origin": own}).status_code == 404
    with websocket(client, "/ws", origin=own) as connection:
        assert receive(connection)["type"] == "ready"


@pytest.mark.parametrize("host", ["0.0.0.0", "tickview.example"])  # noqa: S104
@pytest.mark.parametrize("command", ["serve", "up"])
def test_roles_refuse_other_addresses_without_authentication(
    valkey_url: str, host: str, command: str, tmp_path: Path
) -> None:
    port, options = servers.free_port(), (("--data", str(tmp_path)) if command == "up" else ())
    refused = tickview(command, "--port", str(port), *options, redis_url=valkey_url, host=host)
    assert refused.returncode == 1
    [line] = refused.stderr.decode().splitlines()
    assert host in line
    assert "TICKVIEW_TOKENS_FILE" in line


def test_the_token_command_creates_lists_and_revokes_tokens(valkey_url: str, tmp_path: Path) -> None:
    def token(*arguments: str) -> Any:
        result = tickview("token", *arguments, redis_url=valkey_url, tokens_file=tmp_path / "tokens.json")
        return orjson.loads(result.stdout) if result.returncode == 0 else result.stderr.decode()

    created = token("create", "--subject", "anna", "--scope", "read", "--scope", "write", "--expires", "90d", "--json")
    plain = tickview(
        *("token", "create", "--subject", "bert", "--scope", "operate"),
        redis_url=valkey_url,
        tokens_file=tmp_path / "tokens.json",
    )
    listed = token("list", "--json")["tokens"]
    assert [(row["subject"], row["scopes"]) for row in listed] == [("anna", ["read", "write"]), ("bert", ["operate"])]
    assert listed[0]["id"] == created["id"]
    expires_at = time.mktime(time.strptime(listed[0]["expires_at"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert abs(expires_at - time.time() - 90 * 86_400) < 3_600
    assert created["token"] not in orjson.dumps(listed).decode()
    assert plain.stdout.decode().startswith(f"tickview_{listed[1]['id']}_")
    assert token("revoke", created["id"], "--json")["revoked"]["id"] == created["id"]
    assert "tickview token list" in token("revoke", created["id"])
    assert "read, write, produce, operate" in token("create", "--subject", "a", "--scope", "admin")
    assert "90d" in token("create", "--subject", "a", "--scope", "read", "--expires", "soon")
    unset = tickview("token", "list", redis_url=valkey_url)
    assert "TICKVIEW_TOKENS_FILE" in unset.stderr.decode()
