"""The API without authentication: full access from this machine, no access from elsewhere. Also ``tickview token``."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from tests.processes.api_service import api
from tests.processes.push_clients import receive, websocket
from tests.processes.roles import tickview
from tests.tcp_ports import free_port


@pytest.fixture(scope="module")
def client(module_redis_url: str) -> Iterator[httpx.Client]:
    with api(module_redis_url) as client:
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


FORWARDED = [
    {"X-Forwarded-For": "203.0.113.9"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1"},
    {"X-Real-IP": "127.0.0.1"},
    {"X-Forwarded-Proto": "https"},
    {"CF-Connecting-IP": "127.0.0.1"},
    {"Via": "1.1 proxy"},
]


@pytest.mark.parametrize("headers", FORWARDED, ids=str)
def test_a_forwarded_request_is_not_local(client: httpx.Client, headers: dict[str, str]) -> None:
    for refused in (
        client.get("/api/patterns/scan", headers=headers),
        client.post("/api/projections/patterns/rollback", headers=headers),
    ):
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:tickview:problem:not-local")
    with pytest.raises(InvalidStatus) as closed:
        websocket(client, "/ws", additional_headers=headers)
    assert closed.value.response.status_code == 403


def test_a_trusted_proxy_names_the_client(module_redis_url: str) -> None:
    def status(**headers: str) -> int:
        return client.get("/api/dead-letters", headers=headers).status_code

    with api(module_redis_url, trusted_proxies="127.0.0.1, 10.0.0.0/8", api_processes=1) as client:
        assert status() == 200
        assert status(**{"X-Forwarded-For": "127.0.0.1"}) == 200
        assert status(**{"X-Forwarded-For": "::1, 10.1.2.3"}) == 200
        assert status(Forwarded='for="[::1]:4711";proto=http, for=10.1.2.3') == 200
        assert status(**{"X-Forwarded-For": "203.0.113.9"}) == 403
        assert status(**{"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}) == 403, "the client wrote the first address"
        assert status(**{"X-Forwarded-For": "203.0.113.9, 10.1.2.3"}) == 403
        assert status(**{"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=127.0.0.1"}) == 403, "a contradiction"
        assert status(Forwarded="for=_hidden") == status(Forwarded="for=unknown") == status(Via="1.1 a") == 403


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
        ({"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415, "encoded-body"),
        ({"Content-Encoding": "identity, br"}, 415, "encoded-body"),
        ({"Expect": "200-maybe"}, 417, "unknown-expectation"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/projections/absent/rollback"),
        ("POST", "/api/events"),
        ("DELETE", "/api/dead-letters/" + "0" * 32),
    ],
)
def test_a_body_that_a_form_can_send_is_refused(
    client: httpx.Client, headers: dict[str, str], status: int, kind: str, method: str, path: str
) -> None:
    refused = client.request(method, path, headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (status, f"urn:tickview:problem:{kind}")


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://evil.example/api/patterns/scan", "localhost", 403),
        ("http://localhost/api/patterns/scan", "evil.example", 200),
        ("http://[::1]:8000/api/patterns/scan", "evil.example", 200),
        ("http://localhost@evil.example/api/patterns/scan", "localhost", 400),
        ("http:///api/patterns/scan", "localhost", 400),
    ],
)
def test_an_absolute_target_is_judged_by_its_host(client: httpx.Client, target: str, host: str, status: int) -> None:
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert int(connection.recv(65_536).split()[1]) == status


@pytest.mark.parametrize("path", ["/api/patterns/stream", "/api/stream"])
def test_the_head_of_a_stream_has_its_content_type(client: httpx.Client, path: str) -> None:
    response = client.head(path)
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/event-stream")


@pytest.mark.parametrize("host", ["0.0.0.0", "tickview.example"])  # noqa: S104
@pytest.mark.parametrize("command", ["serve", "up"])
def test_roles_refuse_other_addresses_without_authentication(
    module_redis_url: str, host: str, command: str, tmp_path: Path
) -> None:
    port, options = free_port(), (("--data", str(tmp_path)) if command == "up" else ())
    refused = tickview(command, "--port", str(port), *options, redis_url=module_redis_url, host=host)
    assert refused.returncode == 1
    [line] = refused.stderr.decode().splitlines()
    assert host in line
    assert "TICKVIEW_TOKENS_FILE" in line


def test_the_token_command_creates_lists_and_revokes_tokens(module_redis_url: str, tmp_path: Path) -> None:
    def token(*arguments: str) -> Any:
        result = tickview("token", *arguments, redis_url=module_redis_url, tokens_file=tmp_path / "tokens.json")
        return orjson.loads(result.stdout) if result.returncode == 0 else result.stderr.decode()

    created = token("create", "--subject", "anna", "--scope", "read", "--scope", "write", "--expires", "90d", "--json")
    plain = tickview(
        *("token", "create", "--subject", "bert", "--scope", "operate"),
        redis_url=module_redis_url,
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
    unset = tickview("token", "list", redis_url=module_redis_url)
    assert "TICKVIEW_TOKENS_FILE" in unset.stderr.decode()
