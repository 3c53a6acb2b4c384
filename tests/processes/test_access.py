"""Authentication and authorization of the real service: tokens, JWTs, scopes, users, and pages of other origins."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from infra.access.tokens import create_token, revoke_token
from readapi.http.identities import SCOPES, Scope
from tests import identity_provider as provider
from tests import servers
from tests.plain_http import PLAIN_HTTP
from tests.processes.api_service import api, detection, service
from tests.processes.push_clients import TIMEOUT_SECONDS, receive, receive_until_closed, websocket
from tests.processes.roles import running_role, tickview, wait_until
from tests.tcp_ports import free_port

ORIGIN = "https://ui.example"
FOREIGN_ORIGIN = "https://evil.example"


class GuardedService(NamedTuple):
    """A service that requires authentication."""

    client: httpx.Client
    tokens_file: Path
    tokens: dict[str, str]
    """Scope -> a token that has only this scope."""

    def request(self, method: str, path: str, token: str | None = None, **options: Any) -> httpx.Response:
        return self.client.request(method, path, headers=bearer(token) | options.pop("headers", {}), **options)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, postgres_18_dsn: str) -> Iterator[GuardedService]:
    folder = tmp_path_factory.mktemp("access")
    tokens_file = folder / "tokens.json"
    tokens = {scope: create_token(tokens_file, "anna", [scope], None)[0] for scope in SCOPES}
    settings = {
        "tokens_file": tokens_file,
        **jwt_settings(provider.write_keys(folder / "jwks.json")),
        "cors_origins": ORIGIN,
        # The first worker of a busy machine may need longer than the default.
        "wait_seconds": 30,
    }
    with ExitStack() as stack:
        server = stack.enter_context(servers.valkey())
        dsn = stack.enter_context(servers.new_database(postgres_18_dsn))
        stack.enter_context(running_role("archive", redis_url=server.connection_url, postgres_dsn=dsn))
        client = stack.enter_context(service(server.connection_url, postgres_dsn=dsn, **settings))
        yield GuardedService(client, tokens_file, tokens)


def operations(guarded: GuardedService) -> list[tuple[str, str, list[Any]]]:
    """Read the method, the path and the declared security of each operation."""
    document = guarded.request("GET", "/openapi.json", guarded.tokens["read"]).json()
    return [
        (method.upper(), path.replace("{", "").replace("}", ""), operation["security"])
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_requires_a_token_with_its_scope(guarded: GuardedService) -> None:
    requiring_a_token = 0
    for method, path, security in operations(guarded):
        if {} in security:
            assert (method, path) in [("GET", f"/api/health{part}") for part in ("", "/live", "/ready")]
            continue
        [scope] = security[0]["bearer"]
        anonymous = guarded.request(method, path)
        assert (anonymous.status_code, anonymous.json()["type"]) == (401, "urn:tickview:problem:unauthenticated"), path
        assert anonymous.headers["WWW-Authenticate"] == 'Bearer realm="tickview"'
        for other in set(SCOPES) - {scope}:
            refused = guarded.request(method, path, guarded.tokens[other])
            assert (refused.status_code, refused.json()["scope"]) == (403, scope), path
            assert f'scope="{scope}"' in refused.headers["WWW-Authenticate"]
        if method == "GET" and path not in ("/api/patterns/stream", "/api/stream"):
            assert guarded.request("HEAD", path).status_code == 401
            assert guarded.request("HEAD", path, guarded.tokens[scope]).status_code not in (401, 403)
        requiring_a_token += 1
    assert requiring_a_token >= 26


def test_a_token_permits_the_operations_of_its_scope(guarded: GuardedService) -> None:
    recorded = guarded.request("POST", "/api/events", guarded.tokens["produce"], json=[detection("ALLOWED")])
    assert recorded.status_code == 201, recorded.text
    position = {"TickView-Min-Position": recorded.headers["TickView-Position"]}
    scan = guarded.request(
        "GET", "/api/patterns/scan", guarded.tokens["read"], params={"symbols": "ALLOWED"}, headers=position
    )
    assert scan.json()["pagination"]["total"] == 1
    assert guarded.request("GET", "/api/dead-letters", guarded.tokens["operate"]).status_code == 200
    replay = guarded.request("POST", "/api/projections/backtests/replay", guarded.tokens["operate"])
    assert replay.status_code == 202, replay.text


def test_publish_sends_its_token(guarded: GuardedService) -> None:
    line = orjson.dumps({"channel": "tickstock.events.patterns", "payload": detection("PUBLISHED")})
    for token, code in ((guarded.tokens["produce"], 0), (guarded.tokens["read"], 1)):
        settings = {"port": guarded.client.base_url.port, "token": token}
        result = tickview("publish", "-", "--via", "http", redis_url="redis://unused.invalid", stdin=line, **settings)
        assert result.returncode == code, result.stderr
        assert token not in result.stderr.decode()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_jwt_authenticates_and_carries_its_scopes(guarded: GuardedService, algorithm: str) -> None:
    assert guarded.request("GET", "/api/patterns/scan", provider.sign_token(algorithm)).status_code == 200
    refused = guarded.request("POST", "/api/events", provider.sign_token(algorithm), json=[detection("AAPL")])
    assert (refused.status_code, refused.json()["scope"]) == (403, "produce")


def test_every_forged_jwt_gets_the_same_refusal(guarded: GuardedService) -> None:
    forgeries = provider.forged_tokens()
    refusals = {name: guarded.request("GET", "/api/patterns/scan", forged) for name, forged in forgeries.items()}
    assert {refusal.status_code for refusal in refusals.values()} == {401}
    assert len({refusal.text for refusal in refusals.values()}) == 1
    assert 'error="invalid_token"' in refusals["alg none"].headers["WWW-Authenticate"]


def jwt_settings(keys: Path) -> dict[str, Any]:
    """Settings with which the service accepts JWTs."""
    return {"jwt_issuer": provider.ISSUER, "jwt_audience": provider.AUDIENCE, "jwt_jwks_file": keys}


def test_unusable_keys_are_logged_once_at_start_and_do_not_prevent_authentication(
    module_redis_url: str, tmp_path: Path
) -> None:
    keys = provider.write_keys(tmp_path / "jwks.json")
    with (
        (tmp_path / "log").open("wb") as log,
        api(module_redis_url, log, api_processes=2, **jwt_settings(keys)) as client,
    ):
        for jwt, status in ((provider.sign_token(), 200), (provider.sign_token(kid="use"), 401)):
            assert client.get("/api/patterns/scan", headers=bearer(jwt)).status_code == status
    lines = [orjson.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    ignored = [line["kid"] for line in lines if line["event"] == "key ignored"]
    assert ignored == [key.get("kid") for key in provider.foreign_jwks()]


def test_a_file_of_only_unusable_keys_ends_the_start_with_one_line(module_redis_url: str, tmp_path: Path) -> None:
    keys = tmp_path / "jwks.json"
    keys.write_bytes(orjson.dumps({"keys": provider.foreign_jwks()}))
    refused = tickview("serve", "--port", str(free_port()), redis_url=module_redis_url, **jwt_settings(keys))
    assert refused.returncode == 1
    [line] = refused.stderr.decode().splitlines()
    assert "TICKVIEW_JWT_JWKS_FILE" in line
    assert all(repr(key["kid"]) in line for key in provider.foreign_jwks() if "kid" in key)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Basic YTpi",
        "Bearer a b",
        "Bearer a,b",
        "bearer\tx",
        "Bearer ü",
        f"Bearer {'a' * 9_000}",
    ],
)
def test_an_invalid_authorization_header_is_refused(guarded: GuardedService, header: str) -> None:
    refused = guarded.client.get("/api/patterns/scan", headers={"Authorization": header.encode()})
    assert refused.status_code == 401, refused.text
    both = [("Authorization", header.encode()), ("Authorization", f"Bearer {guarded.tokens['read']}".encode())]
    assert guarded.client.get("/api/patterns/scan", headers=both).status_code == 401


def test_a_token_in_the_query_string_does_not_authenticate(guarded: GuardedService) -> None:
    token = guarded.tokens["read"]
    assert guarded.client.get("/api/patterns/scan", params={"access_token": token}).status_code == 401
    refused = guarded.request("GET", "/api/patterns/scan", token, params={"access_token": token})
    assert refused.status_code == 400
    assert token not in refused.text


def test_health_shows_the_status_to_everybody_and_the_components_to_readers(guarded: GuardedService) -> None:
    assert guarded.client.get("/api/health").json().keys() == {"status"}
    assert guarded.request("GET", "/api/health", guarded.tokens["produce"]).json().keys() == {"status"}
    assert "roles" in guarded.request("GET", "/api/health", guarded.tokens["read"]).json()
    assert guarded.request("GET", "/api/health", "tickview_0_0").status_code == 401


def statuses(guarded: GuardedService, token: str) -> set[int]:
    """Return the status codes of 20 connections, because each process reads the file of tokens for itself."""
    url = guarded.client.base_url.copy_with(path="/api/backtests")
    return {httpx.get(url, headers=bearer(token), timeout=30, verify=PLAIN_HTTP).status_code for _ in range(20)}


def test_tokens_are_created_and_revoked_without_a_restart(guarded: GuardedService) -> None:
    text, token = create_token(guarded.tokens_file, "bert", ["read"], None)
    wait_until(lambda: statuses(guarded, text) == {200}, "the new token is accepted")
    revoke_token(guarded.tokens_file, token.id)
    wait_until(lambda: statuses(guarded, text) == {401}, "the revoked token is refused")


def test_an_expired_token_is_refused(guarded: GuardedService) -> None:
    text, token = create_token(guarded.tokens_file, "bert", ["read"], 8.0)
    wait_until(lambda: guarded.request("GET", "/api/backtests", text).status_code == 200, "the new token is accepted")
    wait_until(
        lambda: guarded.request("GET", "/api/backtests", text).status_code == 401, "the expired token is refused"
    )
    assert time.time() >= (token.expires_at or 0)


def test_x_user_id_must_name_the_user_of_the_token(guarded: GuardedService) -> None:
    headers = {"X-User-ID": "bert"}
    refused = guarded.request("GET", "/api/patterns/scan", guarded.tokens["read"], headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:tickview:problem:another-user")
    assert guarded.client.get("/api/patterns/scan", headers=headers).status_code == 401
    headers = {"X-User-ID": "anna"}
    assert guarded.request("GET", "/api/patterns/scan", guarded.tokens["read"], headers=headers).status_code == 200


def test_only_an_operator_reads_the_audit_of_another_user(guarded: GuardedService) -> None:
    scopes: list[Scope] = ["read", "operate"]
    operator, _ = create_token(guarded.tokens_file, "carl", scopes, None)
    wait_until(
        lambda: guarded.request("GET", "/api/backtests", operator).status_code == 200, "the new token is accepted"
    )
    statuses = {
        (name, stream): guarded.request("GET", f"/api/audit/streams/{stream}", token).status_code
        for name, token in (("anna", guarded.tokens["read"]), ("operator", operator))
        for stream in ("user-anna", "user-bert", "user-anna%2Fbert", "symbol-NONE")
    }
    assert statuses == {
        ("anna", "user-anna"): 404,
        ("anna", "user-bert"): 403,
        ("anna", "user-anna%2Fbert"): 403,
        ("anna", "symbol-NONE"): 404,
        **{("operator", stream): 404 for stream in ("user-anna", "user-bert", "user-anna%2Fbert", "symbol-NONE")},
    }


@pytest.mark.parametrize("path", ["/ws", "/ws/patterns"])
def test_a_websocket_needs_a_token_in_a_header_or_as_a_subprotocol(guarded: GuardedService, path: str) -> None:
    for subprotocols in (None, ["bearer"], ["bearer", "x"], ["bearer", guarded.tokens["read"], "x"], ["other"]):
        with pytest.raises(InvalidStatus) as refused:
            websocket(guarded.client, path, subprotocols=subprotocols)
        assert refused.value.response.status_code == 401
        assert orjson.loads(refused.value.response.body)["status"] == 401
    with pytest.raises(InvalidStatus) as refused:
        websocket(guarded.client, path, additional_headers=bearer(guarded.tokens["operate"]))
    assert refused.value.response.status_code == 403
    with websocket(guarded.client, path, additional_headers=bearer(guarded.tokens["read"])) as connection:
        assert receive(connection)["type"] == "ready"
    with websocket(guarded.client, path, subprotocols=["bearer", provider.sign_token()]) as connection:
        assert connection.subprotocol == "bearer"
        assert receive(connection)["type"] == "ready"


def test_revoking_a_token_closes_its_live_connections(guarded: GuardedService) -> None:
    text, token = create_token(guarded.tokens_file, "bert", ["read"], None)
    wait_until(lambda: statuses(guarded, text) == {200}, "the new token is accepted")
    headers = bearer(text)
    with (
        websocket(guarded.client, "/ws", additional_headers=headers) as revoked,
        websocket(guarded.client, "/ws", additional_headers=bearer(guarded.tokens["read"])) as valid,
        guarded.client.stream("GET", "/api/patterns/stream", headers=headers) as events,
    ):
        revoke_token(guarded.tokens_file, token.id)
        with pytest.raises(ConnectionClosedError) as closed:
            receive_until_closed(revoked)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4001
        assert "was revoked" in closed.value.rcvd.reason
        assert "event: dropped" in list(events.iter_lines())
        valid.ping().wait(TIMEOUT_SECONDS)


def test_a_page_of_another_origin_reads_nothing_and_changes_nothing(guarded: GuardedService) -> None:
    headers = {"Origin": FOREIGN_ORIGIN}
    read = guarded.request("GET", "/api/patterns/scan", guarded.tokens["read"], headers=headers)
    assert read.status_code == 200
    assert not [name for name in read.headers if name.startswith("access-control-")]
    changed = guarded.request("POST", "/api/projections/patterns/rollback", guarded.tokens["operate"], headers=headers)
    assert (changed.status_code, changed.json()["type"]) == (403, "urn:tickview:problem:foreign-origin")
    preflight = {**headers, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    refused_preflight = guarded.client.options("/api/patterns/scan", headers=preflight)
    assert not [name for name in refused_preflight.headers if name.startswith("access-control-")]
    with pytest.raises(InvalidStatus) as refused:
        websocket(guarded.client, "/ws", origin=FOREIGN_ORIGIN, additional_headers=bearer(guarded.tokens["read"]))
    assert refused.value.response.status_code == 403


def test_a_page_of_an_allowed_origin_reads_and_changes(guarded: GuardedService) -> None:
    headers = {"Origin": ORIGIN}
    preflight = {**headers, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    allowed = guarded.client.options("/api/patterns/scan", headers=preflight)
    assert allowed.status_code == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert allowed.headers["Access-Control-Allow-Headers"] == "authorization"
    assert "GET" in allowed.headers["Access-Control-Allow-Methods"]
    read = guarded.request("GET", "/api/patterns/scan", guarded.tokens["read"], headers=headers)
    assert read.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Access-Control-Allow-Credentials" not in read.headers
    exposed = read.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"TickView-Position", "ETag", "Retry-After"} <= set(exposed)
    assert "Origin" in read.headers["Vary"]
    assert guarded.client.get("/api/patterns/scan", headers=headers).headers["Access-Control-Allow-Origin"] == ORIGIN
    rollback = guarded.request("POST", "/api/projections/activity/rollback", guarded.tokens["operate"], headers=headers)
    assert rollback.status_code == 409
    with websocket(
        guarded.client, "/ws", origin=ORIGIN, additional_headers=bearer(guarded.tokens["read"])
    ) as connection:
        assert receive(connection)["type"] == "ready"


def test_unknown_paths_and_methods_are_reported_without_a_token(guarded: GuardedService) -> None:
    assert guarded.client.get("/api/nothing").status_code == 404
    assert guarded.client.put("/api/patterns/scan").status_code == 405
