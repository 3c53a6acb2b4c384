"""Who may do what, asked of the real service: without a token, with a wrong one, and from foreign pages."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from infra.access.tokens import create_token, revoke_token
from readapi.http.identities import SCOPES, Scope
from tests import identity_provider as provider
from tests import servers
from tests.processes.api_service import api, detection, service
from tests.processes.roles import running_role, tickview, wait_until

ORIGIN = "https://ui.example"
FOREIGN = "https://evil.example"


class Guarded(NamedTuple):
    """A service that asks who asks."""

    client: httpx.Client
    file: Path
    tokens: dict[str, str]
    """A token of each scope alone."""

    def ask(self, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
        return self.client.request(method, path, headers=bearer(token) | more.pop("headers", {}), **more)


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, postgres_18_dsn: str) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("access")
    file = folder / "tokens.json"
    tokens = {scope: create_token(file, "anna", [scope], None)[0] for scope in SCOPES}
    settings = {
        "tokens_file": file,
        **by_jwt(provider.write_keys(folder / "jwks.json")),
        "cors_origins": ORIGIN,
        # The first worker may take its time.
        "wait_seconds": 30,
    }
    with ExitStack() as stack:
        server = stack.enter_context(servers.valkey())
        dsn = stack.enter_context(servers.new_database(postgres_18_dsn))
        stack.enter_context(running_role("archive", redis_url=server.connection_url, postgres_dsn=dsn))
        client = stack.enter_context(service(server.connection_url, postgres_dsn=dsn, **settings))
        yield Guarded(client, file, tokens)


def operations(guarded: Guarded) -> list[tuple[str, str, list[Any]]]:
    """Method, path and what is declared of access, of each operation."""
    document = guarded.ask("GET", "/openapi.json", guarded.tokens["read"]).json()
    return [
        (method.upper(), path.replace("{", "").replace("}", ""), declared["security"])
        for path, methods in document["paths"].items()
        for method, declared in methods.items()
    ]


def test_every_operation_asks_for_a_token_and_for_its_scope(guarded: Guarded) -> None:
    asked = 0
    for method, path, security in operations(guarded):
        if {} in security:
            assert (method, path) == ("GET", "/api/health")
            continue
        [scope] = security[0]["bearer"]
        nobody = guarded.ask(method, path)
        assert (nobody.status_code, nobody.json()["type"]) == (401, "urn:tickview:problem:unauthenticated"), path
        assert nobody.headers["WWW-Authenticate"] == 'Bearer realm="tickview"'
        for other in set(SCOPES) - {scope}:
            refused = guarded.ask(method, path, guarded.tokens[other])
            assert (refused.status_code, refused.json()["scope"]) == (403, scope), path
            assert f'scope="{scope}"' in refused.headers["WWW-Authenticate"]
        if method == "GET" and path != "/api/patterns/stream":
            head = [guarded.ask("HEAD", path, token).status_code for token in (None, guarded.tokens[scope])]
            assert head[0] == 401
            assert head[1] not in (401, 403)
        asked += 1
    assert asked >= 26


def test_what_the_scope_allows_is_done(guarded: Guarded) -> None:
    recorded = guarded.ask("POST", "/api/events", guarded.tokens["produce"], json=[detection("ALLOWED")])
    assert recorded.status_code == 201, recorded.text
    position = {"TickView-Min-Position": recorded.headers["TickView-Position"]}
    scan = guarded.ask(
        "GET", "/api/patterns/scan", guarded.tokens["read"], params={"symbols": "ALLOWED"}, headers=position
    )
    assert scan.json()["pagination"]["total"] == 1
    assert guarded.ask("GET", "/api/dead-letters", guarded.tokens["operate"]).status_code == 200
    replay = guarded.ask("POST", "/api/projections/backtests/replay", guarded.tokens["operate"])
    assert replay.status_code == 202, replay.text


def test_publish_shows_its_token(guarded: Guarded) -> None:
    line = orjson.dumps({"channel": "tickstock.events.patterns", "payload": detection("PUBLISHED")})
    for token, code in ((guarded.tokens["produce"], 0), (guarded.tokens["read"], 1)):
        settings = {"port": guarded.client.base_url.port, "token": token}
        done = tickview("publish", "-", "--via", "http", redis_url="redis://unused.invalid", stdin=line, **settings)
        assert done.returncode == code, done.stderr
        assert token not in done.stderr.decode()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_jwt_is_as_good_as_a_token(guarded: Guarded, algorithm: str) -> None:
    assert guarded.ask("GET", "/api/patterns/scan", provider.sign_token(algorithm)).status_code == 200
    refused = guarded.ask("POST", "/api/events", provider.sign_token(algorithm), json=[detection("AAPL")])
    assert (refused.status_code, refused.json()["scope"]) == (403, "produce")


def test_every_forged_jwt_gets_the_same_answer(guarded: Guarded) -> None:
    answers = {
        name: guarded.ask("GET", "/api/patterns/scan", forged) for name, forged in provider.forged_tokens().items()
    }
    assert {answer.status_code for answer in answers.values()} == {401}
    assert len({answer.text for answer in answers.values()}) == 1
    assert 'error="invalid_token"' in answers["alg none"].headers["WWW-Authenticate"]


def by_jwt(keys: Path) -> dict[str, Any]:
    """The settings with which JWTs alone are taken."""
    return {"jwt_issuer": provider.ISSUER, "jwt_audience": provider.AUDIENCE, "jwt_jwks_file": keys}


def test_keys_of_others_are_told_once_at_start_and_keep_nobody_out(valkey_url: str, tmp_path: Path) -> None:
    keys = provider.write_keys(tmp_path / "jwks.json")
    with (tmp_path / "log").open("wb") as log, api(valkey_url, log, api_processes=2, **by_jwt(keys)) as client:
        for jwt, status in ((provider.sign_token(), 200), (provider.sign_token(kid="use"), 401)):
            assert client.get("/api/patterns/scan", headers=bearer(jwt)).status_code == status
    lines = [orjson.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    told = [line["kid"] for line in lines if line["event"] == "key ignored"]
    assert told == [key.get("kid") for key in provider.foreign_jwks()]


def test_keys_of_others_alone_end_the_start_in_one_line(valkey_url: str, tmp_path: Path) -> None:
    keys = tmp_path / "jwks.json"
    keys.write_bytes(orjson.dumps({"keys": provider.foreign_jwks()}))
    refused = tickview("serve", "--port", str(servers.free_port()), redis_url=valkey_url, **by_jwt(keys))
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
def test_a_header_that_is_none_is_refused(guarded: Guarded, header: str) -> None:
    answer = guarded.client.get("/api/patterns/scan", headers={"Authorization": header.encode()})
    assert answer.status_code == 401, answer.text
    both = [("Authorization", header.encode()), ("Authorization", f"Bearer {guarded.tokens['read']}".encode())]
    assert guarded.client.get("/api/patterns/scan", headers=both).status_code == 401


def test_a_token_in_the_query_string_is_none(guarded: Guarded) -> None:
    token = guarded.tokens["read"]
    assert guarded.client.get("/api/patterns/scan", params={"access_token": token}).status_code == 401
    refused = guarded.ask("GET", "/api/patterns/scan", token, params={"access_token": token})
    assert refused.status_code == 400
    assert token not in refused.text


def test_health_tells_everybody_whether_and_readers_why(guarded: Guarded) -> None:
    assert guarded.client.get("/api/health").json().keys() == {"status"}
    assert guarded.ask("GET", "/api/health", guarded.tokens["produce"]).json().keys() == {"status"}
    assert "components" in guarded.ask("GET", "/api/health", guarded.tokens["read"]).json()
    assert guarded.ask("GET", "/api/health", "tickview_0_0").status_code == 401


def statuses(guarded: Guarded, token: str) -> set[int]:
    """What is answered on several connections, for each process looks at the file for itself."""
    url = guarded.client.base_url.copy_with(path="/api/backtests")
    return {httpx.get(url, headers=bearer(token), timeout=30).status_code for _ in range(20)}


def test_a_new_token_is_known_and_a_revoked_one_forgotten_without_a_restart(guarded: Guarded) -> None:
    text, token = create_token(guarded.file, "bert", ["read"], None)

    wait_until(lambda: statuses(guarded, text) == {200}, "the token is known")
    revoke_token(guarded.file, token.id)
    wait_until(lambda: statuses(guarded, text) == {401}, "the token is forgotten")


def test_a_token_ends(guarded: Guarded) -> None:
    text, token = create_token(guarded.file, "bert", ["read"], 8.0)
    wait_until(lambda: guarded.ask("GET", "/api/backtests", text).status_code == 200, "the token is known")
    wait_until(lambda: guarded.ask("GET", "/api/backtests", text).status_code == 401, "the token ends")
    assert time.time() >= (token.expires_at or 0)


def test_x_user_id_makes_nobody_another(guarded: Guarded) -> None:
    headers = {"X-User-ID": "bert"}
    refused = guarded.ask("GET", "/api/patterns/scan", guarded.tokens["read"], headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:tickview:problem:another-user")
    assert guarded.client.get("/api/patterns/scan", headers=headers).status_code == 401
    headers = {"X-User-ID": "anna"}
    assert guarded.ask("GET", "/api/patterns/scan", guarded.tokens["read"], headers=headers).status_code == 200


def test_what_another_user_did_is_for_the_operator_alone(guarded: Guarded) -> None:
    both: list[Scope] = ["read", "operate"]
    operator, _ = create_token(guarded.file, "carl", both, None)
    wait_until(lambda: guarded.ask("GET", "/api/backtests", operator).status_code == 200, "the token is known")
    statuses = {
        (name, stream): guarded.ask("GET", f"/api/audit/streams/{stream}", token).status_code
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


def sockets(guarded: Guarded, path: str, **options: Any) -> Any:
    url = str(guarded.client.base_url.copy_with(scheme="ws")).rstrip("/")
    return connect(url + path, open_timeout=30, **options)


@pytest.mark.parametrize("path", ["/ws", "/ws/patterns"])
def test_a_websocket_needs_a_token_in_its_header_or_as_a_protocol(guarded: Guarded, path: str) -> None:
    for offered in (None, ["bearer"], ["bearer", "x"], ["bearer", guarded.tokens["read"], "x"], ["other"]):
        with pytest.raises(InvalidStatus) as refused:
            sockets(guarded, path, subprotocols=offered)
        assert refused.value.response.status_code == 401
        assert orjson.loads(refused.value.response.body)["status"] == 401
    with pytest.raises(InvalidStatus) as refused:
        sockets(guarded, path, additional_headers=bearer(guarded.tokens["operate"]))
    assert refused.value.response.status_code == 403
    with sockets(guarded, path, additional_headers=bearer(guarded.tokens["read"])) as connection:
        assert orjson.loads(connection.recv(timeout=30))["type"] == "ready"
    with sockets(guarded, path, subprotocols=["bearer", provider.sign_token()]) as connection:
        assert connection.subprotocol == "bearer"
        assert orjson.loads(connection.recv(timeout=30))["type"] == "ready"


def read_to_the_end(connection: ClientConnection) -> None:
    while True:
        connection.recv(timeout=60)


def test_a_live_connection_does_not_outlive_its_token(guarded: Guarded) -> None:
    text, token = create_token(guarded.file, "bert", ["read"], None)
    wait_until(lambda: statuses(guarded, text) == {200}, "the token is known")
    headers = bearer(text)
    with (
        sockets(guarded, "/ws", additional_headers=headers) as ended,
        sockets(guarded, "/ws", additional_headers=bearer(guarded.tokens["read"])) as goes_on,
        guarded.client.stream("GET", "/api/patterns/stream", headers=headers) as events,
    ):
        revoke_token(guarded.file, token.id)
        with pytest.raises(ConnectionClosedError) as closed:
            read_to_the_end(ended)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4001
        assert "was revoked" in closed.value.rcvd.reason
        assert "event: dropped" in list(events.iter_lines())
        goes_on.ping().wait(30)


def test_a_page_of_a_foreign_site_reads_nothing_and_changes_nothing(guarded: Guarded) -> None:
    headers = {"Origin": FOREIGN}
    read = guarded.ask("GET", "/api/patterns/scan", guarded.tokens["read"], headers=headers)
    assert read.status_code == 200
    assert not [name for name in read.headers if name.startswith("access-control-")]
    changed = guarded.ask("POST", "/api/projections/patterns/rollback", guarded.tokens["operate"], headers=headers)
    assert (changed.status_code, changed.json()["type"]) == (403, "urn:tickview:problem:foreign-origin")
    preflight = {**headers, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    answer = guarded.client.options("/api/patterns/scan", headers=preflight)
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    with pytest.raises(InvalidStatus) as refused:
        sockets(guarded, "/ws", origin=FOREIGN, additional_headers=bearer(guarded.tokens["read"]))
    assert refused.value.response.status_code == 403


def test_a_page_that_is_allowed_reads_and_asks(guarded: Guarded) -> None:
    headers = {"Origin": ORIGIN}
    preflight = {**headers, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    asked = guarded.client.options("/api/patterns/scan", headers=preflight)
    assert asked.status_code == 200
    assert asked.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert asked.headers["Access-Control-Allow-Headers"] == "authorization"
    assert "GET" in asked.headers["Access-Control-Allow-Methods"]
    read = guarded.ask("GET", "/api/patterns/scan", guarded.tokens["read"], headers=headers)
    assert read.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Access-Control-Allow-Credentials" not in read.headers
    exposed = read.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"TickView-Position", "ETag", "Retry-After"} <= set(exposed)
    assert "Origin" in read.headers["Vary"]
    assert guarded.client.get("/api/patterns/scan", headers=headers).headers["Access-Control-Allow-Origin"] == ORIGIN
    rollback = guarded.ask("POST", "/api/projections/activity/rollback", guarded.tokens["operate"], headers=headers)
    assert rollback.status_code == 409
    with sockets(guarded, "/ws", origin=ORIGIN, additional_headers=bearer(guarded.tokens["read"])) as connection:
        assert orjson.loads(connection.recv(timeout=30))["type"] == "ready"


def test_what_there_is_not_is_told_without_a_token(guarded: Guarded) -> None:
    assert guarded.client.get("/api/nothing").status_code == 404
    assert guarded.client.put("/api/patterns/scan").status_code == 405
