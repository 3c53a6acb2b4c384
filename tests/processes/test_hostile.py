"""The real service under hostile requests: limits of bodies and rates, injected headers, secrets in logs."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.access.tokens import create_token
from infra.redis.connections import connect
from readapi.http.identities import SCOPES
from readapi.operations.events import MAX_BODY_BYTES
from tests import identity_provider as provider
from tests import servers
from tests.plain_http import PLAIN_HTTP
from tests.processes.api_service import api, api_responds, detection
from tests.processes.roles import running_role, tickview, wait_until
from tests.tcp_ports import free_port

SECRET = "s3cret-passw0rd"  # noqa: S105

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def client(module_redis_url: str) -> Iterator[httpx.Client]:
    with api(module_redis_url, api_processes=1) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "max_bytes"), [("/api/events", MAX_BODY_BYTES), ("/api/projections/patterns/replay", 16_384)]
)
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused_with_and_without_a_declared_length(
    client: httpx.Client, path: str, max_bytes: int, declared: bool
) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(max_bytes // 65_536 + 2):
            yield b" " * 65_536

    content: Any = b" " * (max_bytes + 1) if declared else chunks()
    refused = client.post(path, content=content, headers=JSON)
    assert (refused.status_code, refused.json()["type"]) == (413, "urn:tickview:problem:too-large")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"channel":"x","payload":['])
def test_json_that_is_nested_too_deeply_is_refused(client: httpx.Client, opening: bytes) -> None:
    for content in (opening * 100_000, b'[{"channel":"x","payload":' + b"[" * 5_000 + b"]" * 5_000 + b"}]"):
        refused = client.post("/api/events", content=content, headers=JSON)
        assert refused.status_code in (400, 422), refused.text
        assert len(refused.content) < 10_000
    assert client.get("/api/patterns/scan").status_code == 200


@pytest.mark.parametrize("value", ["a%0d%0aSet-Cookie:%20a=b", "a%0aX-Injected:%201", "a%00b"])
@pytest.mark.parametrize(
    "path", ["/api/patterns/{}", "/api/backtests/{}", "/api/audit/streams/{}", "/api/patterns/scan?cursor={}", "/{}"]
)
def test_line_breaks_in_a_request_do_not_become_headers(client: httpx.Client, value: str, path: str) -> None:
    response = client.get(path.format(value))
    assert response.status_code in (400, 404, 503)
    assert {"set-cookie", "x-injected"}.isdisjoint(response.headers)


def test_a_preflight_of_another_origin_is_not_echoed(client: httpx.Client) -> None:
    preflight = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "DELETE",
        "Access-Control-Request-Headers": "x-anything",
    }
    response = client.options("/api/dead-letters/a", headers=preflight)
    assert "x-anything" not in str(response.headers)


def test_a_client_above_the_rate_limit_gets_429_and_other_clients_do_not(module_redis_url: str, tmp_path: Path) -> None:
    tokens_file = tmp_path / "tokens.json"
    busy, other = (create_token(tokens_file, name, ["read"], None)[0] for name in ("anna", "bert"))
    # One request in a hundred seconds, and a burst of three requests.
    limits = {
        "rate_limit": 0.01,
        "rate_burst": 3,
        "api_processes": 1,
        "tokens_file": tokens_file,
        "jwt_issuer": provider.ISSUER,
        "jwt_audience": provider.AUDIENCE,
        "jwt_jwks_file": provider.write_keys(tmp_path / "jwks.json"),
    }
    port = free_port()
    with (
        running_role("serve", "--port", str(port), redis_url=module_redis_url, **limits),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=PLAIN_HTTP) as client,
    ):
        # The limit does not count requests without a route.
        wait_until(lambda: _responds(client), "the API responds")

        def get(path: str, token: str | None) -> httpx.Response:
            return client.get(path, headers={} if token is None else {"Authorization": f"Bearer {token}"})

        assert [get("/api/patterns/scan", busy).status_code for _ in range(5)] == [200] * 3 + [429] * 2
        refused = get("/api/patterns/scan", busy)
        assert refused.json()["type"] == "urn:tickview:problem:too-many-requests"
        assert 90 < int(refused.headers["Retry-After"]) <= 100
        assert get("/api/patterns/scan", other).status_code == 200
        # A JWT with and without base64 padding of its signature is one client.
        jwt = provider.sign_token()
        statuses = [get("/api/patterns/scan", jwt + padding).status_code for padding in ("", "==", "", "==", "")]
        assert statuses == [200] * 3 + [429] * 2
        # Without a valid token, the limit counts the requests of the address.
        assert get("/api/patterns/scan", None).status_code == 401
        assert get("/api/patterns/scan", "tickview_0_0").status_code == 401
        # The server may have read models of other tests, which no worker folds.
        assert get("/api/health", None).status_code in (200, 503)
        assert [get("/api/health", token).status_code for token in (None, "tickview_0_1")] == [429, 429]
        assert get("/api/patterns/scan", other).status_code == 200


def _responds(client: httpx.Client) -> bool:
    try:
        return client.get("/nothing").status_code == 404
    except httpx.TransportError:
        return False


def test_no_log_contains_a_secret(tmp_path: Path, postgres_18_dsn: str) -> None:
    """Run all roles and let each operation fail that handles a secret."""
    tokens_file = tmp_path / "tokens.json"
    token, _ = create_token(tokens_file, "anna", SCOPES, None)
    secret = token.rpartition("_")[2]
    logs = {role: tmp_path / f"{role}.log" for role in ("archive", "record", "project", "serve")}
    with ExitStack() as stack:
        server = stack.enter_context(servers.valkey(tmp_path / "valkey"))
        dsn = stack.enter_context(servers.new_database(postgres_18_dsn))
        with connect(server.connection_url) as redis:
            redis.acl_setuser(
                "tickview", enabled=True, passwords=[f"+{SECRET}"], keys="*", channels="*", categories=["+@all"]
            )
        port, address = free_port(), server.connection_url.rpartition("/")[2]
        settings: dict[str, Any] = {
            "redis_url": f"redis://tickview:{SECRET}@{address}",
            "postgres_dsn": f"{dsn}&password={SECRET}",
            "tokens_file": tokens_file,
            "log_level": "debug",
        }
        for role, log in logs.items():
            arguments = ("--port", str(port)) if role == "serve" else ()
            stack.enter_context(running_role(role, *arguments, log=stack.enter_context(log.open("wb")), **settings))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=PLAIN_HTTP))
        wait_until(lambda: api_responds(client), "the API responds")
        bearer = {"Authorization": f"Bearer {token}"}
        partly_refused = client.post("/api/events", json=[detection("LOGGED"), {"nonsense": 1}], headers=bearer)
        assert partly_refused.status_code == 207
        client.get("/api/patterns/scan", params={"access_token": token}, headers=bearer)
        client.get("/api/patterns/scan", headers={"Authorization": f"Basic {secret}"})
        client.get("/api/audit/events", headers=bearer)
        server.stop()
        client.post("/api/events", json=[detection("AWAY")], headers=bearer)
        wait_until(
            lambda: all(b"Connection refused" in log.read_bytes() for log in logs.values()),
            "every role logs the outage",
        )
    texts = {role: log.read_text() for role, log in logs.items()}
    assert all(json.loads(line) for text in texts.values() for line in text.splitlines() if line.startswith("{"))
    for role, text in texts.items():
        assert SECRET not in text, role
        assert secret not in text, role


@pytest.mark.parametrize("command", ["record", "project", "archive", "status"])
def test_no_startup_error_contains_a_secret(tmp_path: Path, command: str) -> None:
    url = f"redis://user:{SECRET}@127.0.0.1:{free_port()}/0"
    dsn = f"postgresql://user:{SECRET}@127.0.0.1:{free_port()}/none"
    result = tickview(command, redis_url=url, postgres_dsn=dsn, data=tmp_path, port=free_port())
    assert result.returncode == 1
    assert SECRET not in (result.stderr + result.stdout).decode()


def test_the_log_of_an_api_that_starts_without_servers_contains_no_secret(tmp_path: Path) -> None:
    url = f"redis://user:{SECRET}@127.0.0.1:{free_port()}/0"
    dsn = f"postgresql://user:{SECRET}@127.0.0.1:{free_port()}/none"
    with (tmp_path / "log").open("wb") as log, api(url, log, postgres_dsn=dsn) as client:
        assert SECRET not in client.get("/api/health").text
    text = (tmp_path / "log").read_text()
    assert "the API starts without Redis" in text
    assert SECRET not in text


def test_commands_print_no_control_characters_of_messages(client: httpx.Client, module_redis_url: str) -> None:
    hostile = "\x1b]0;title\x07\x9b31m\u202e"
    unreadable = {"channel": hostile, "payload": f"{hostile} is no JSON"}
    [refused] = client.post("/api/events", json=[unreadable]).json()["refused"]
    readable = detection("HOSTILE")
    readable["data"]["note"] = hostile
    assert client.post("/api/events", json=readable).status_code == 201
    for arguments in (
        ("dead-letters", "list"),
        ("dead-letters", "list", "--json"),
        ("dead-letters", "show", refused["dead_letter"]),
        ("dead-letters", "show", refused["dead_letter"], "--json"),
        ("dead-letters", "retry", refused["dead_letter"]),
        ("dead-letters", "discard", hostile.encode()),
    ):
        printed = tickview(*arguments, redis_url=module_redis_url)
        output = (printed.stdout + printed.stderr).decode()
        assert "title" in output or "refused" in output, arguments
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(output), arguments
