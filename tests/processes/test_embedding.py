"""The service embedded in applications of five frameworks: real HTTP, a real Valkey and a real worker."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import falcon
import httpx
import pytest

import readapi
from infra.processes.errors import StartupError
from tests import servers
from tests.plain_http import PLAIN_HTTP
from tests.processes import hosts
from tests.processes.api_service import detection, post, scan_source
from tests.processes.push_clients import receive, websocket
from tests.processes.roles import running_role, stop, wait_until
from tests.tcp_ports import free_port

HOSTS = {"falcon_app": "", "starlette_app": "/market", "fastapi_app": "/market", "django_app": "", "flask_app": ""}
"""Application -> the prefix of TickView in it."""

PUSH_PROTOCOLS = ("--http", "infra.web_server.uvicorn:HttpStream", "--ws", "infra.web_server.uvicorn:WebSocketStream")
"""Options of uvicorn with which live push writes to the sockets of clients."""


class Host(NamedTuple):
    """A running host application and a client of the service in it."""

    name: str
    client: httpx.Client


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with (
        servers.valkey() as server,
        running_role("project", redis_url=server.connection_url),
        running_role("record", redis_url=server.connection_url),
    ):
        yield server.connection_url


@contextmanager
def hosted(name: str, redis_url: str, *options: str, **settings: Any) -> Iterator[httpx.Client]:
    """Run an application under uvicorn, or a Flask application under gunicorn. Yield a client of the service in it."""
    port = free_port()
    environment = {**os.environ, "TICKVIEW_REDIS_URL": redis_url, "TICKVIEW_WAIT_SECONDS": "30"}
    environment |= {f"TICKVIEW_{setting.upper()}": str(value) for setting, value in settings.items()}
    application = f"tests.processes.hosts:{name}"
    server = ["uvicorn", "--factory", application, "--port", str(port), "--timeout-graceful-shutdown", "3"]
    if name == "flask_app":
        server = ["gunicorn", f"{application}()", "--bind", f"127.0.0.1:{port}", "--preload", "--no-control-socket"]
    process = subprocess.Popen([sys.executable, "-m", *server, *options], env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}{HOSTS[name]}", timeout=60, verify=PLAIN_HTTP) as client:
            wait_until(lambda: host_responds(client), "the application responds")
            yield client
    finally:
        stop(process)


def get_own_route(client: httpx.Client) -> httpx.Response:
    return client.get(str(client.base_url.copy_with(path="/own")))


def host_responds(client: httpx.Client) -> bool:
    try:
        return get_own_route(client).json() == {"own": True}
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Host]:
    """Each application with the protocols of uvicorn."""
    with hosted(request.param, redis_url) as client:
        yield Host(request.param, client)


def test_the_service_works_in_a_host_application(host: Host) -> None:
    name, client = host
    # A host may not forward the lifespan. The first request then starts the service.
    header = post(client, [detection(name)])
    scan = client.get("/api/patterns/scan", params={"symbols": name}, headers=header)
    assert scan.json()["pagination"]["total"] == 1, scan.text
    refused = client.get("/api/patterns/scan?nonsense=1")
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
    wait_until(lambda: client.get("/api/health").json()["status"] == "healthy", "the service is healthy")
    document = client.get("/openapi.json").json()
    assert document["servers"] == [{"url": HOSTS[name] or "/"}]
    assert "/api/patterns/scan" in document["paths"]
    created = client.post("/api/users/watchlists", json={"name": name})
    location = created.url.join(created.headers["location"])
    header = {"TickView-Min-Position": created.headers["tickview-position"]}
    assert client.get(location, headers=header).json() == created.json()
    assert get_own_route(client).json() == {"own": True}


def test_the_console_is_below_the_prefix_and_a_host_keeps_its_own_root(host: Host) -> None:
    name, client = host
    page = client.get("/console")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    [script] = re.findall(r'src="([^"]+)"', page.text)
    # The service is above the folder of the script, whatever the prefix.
    assert page.url.join(script).path == f"{HOSTS[name]}/console/app.js"
    assert client.get(page.url.join(script)).headers["content-type"] == "text/javascript; charset=utf-8"
    root = client.get("/", follow_redirects=True)
    assert (root.text == page.text) == (HOSTS[name] != "")
    # A mounted application has its own API reference, which loads the document from below the same prefix.
    reference = client.get("/docs")
    assert (reference.text == page.text) == (HOSTS[name] != "")


def check_live_push(client: httpx.Client, name: str) -> None:
    """Check that both transports tell a new pattern."""
    # The service resets clients that connect before it knows the first build.
    wait_until(lambda: scan_source(client) == "replica", "the replica answers")
    stream = client.stream("GET", "/api/patterns/stream", params={"symbols": f"L-{name}"})
    with websocket(client, f"/ws/patterns?symbols=L-{name}") as connection, stream as events:
        lines = events.iter_lines()
        assert receive(connection)["type"] == "ready"
        assert next(lines) == "event: ready"
        post(client, [detection(f"L-{name}")])
        assert receive(connection)["type"] == "changes"
        while next(lines) != "event: changes":
            pass


def test_live_push_works_with_the_protocols_of_uvicorn(host: Host) -> None:
    if host.name == "flask_app":
        refused = host.client.get("/api/patterns/stream")
        assert (refused.status_code, refused.json()["type"]) == (501, "urn:tickview:problem:no-live-push")
        assert "a WSGI server cannot push" in refused.json()["detail"]
    else:
        check_live_push(host.client, host.name)


@pytest.mark.parametrize("host", ["flask_app"], indirect=True)
def test_a_flask_application_keeps_its_own_routes(host: Host) -> None:
    assert host.client.get("/api/health/live").json() == {"own": True}
    assert host.client.get("/none").headers["content-type"].startswith("text/html")
    assert host.client.patch("/api/health").status_code == 405
    assert host.client.head("/api/health").status_code == 200
    assert host.client.get("/api/read-models/patterns/no%2Fsuch%20row").status_code == 404


@pytest.mark.parametrize("host", ["fastapi_app"], indirect=True)
def test_the_api_reference_of_a_fastapi_application_includes_the_service(host: Host) -> None:
    document = host.client.get(str(host.client.base_url.copy_with(path="/openapi.json"))).json()
    scan = document["paths"]["/market/api/patterns/scan"]["get"]
    schema = scan["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    assert schema.rpartition("/")[2] in document["components"]["schemas"]
    assert "/own" in document["paths"]


def test_a_host_starts_while_redis_is_away() -> None:
    port = free_port()
    with hosted("starlette_app", f"redis://127.0.0.1:{port}", wait_seconds=1) as client:
        assert client.get("/api/patterns/scan").status_code == 503
        with servers.valkey(port=port):
            event = [detection("late")]
            wait_until(lambda: client.post("/api/events", json=event).status_code == 201, "the service records events")


@pytest.mark.parametrize("framework", ["falcon_app", "flask_app", "fastapi_app"])
def test_nothing_connects_before_the_start(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as redis:
        monkeypatch.setenv("TICKVIEW_REDIS_URL", f"redis://127.0.0.1:{redis.getsockname()[1]}")
        getattr(hosts, framework)()
        redis.setblocking(False)
        with pytest.raises(BlockingIOError):
            redis.accept()


def test_live_push_works_with_the_protocols_of_the_service(redis_url: str) -> None:
    with hosted("starlette_app", redis_url, *PUSH_PROTOCOLS) as client:
        check_live_push(client, "direct")


@pytest.mark.parametrize("host", ["falcon_app"], indirect=True)
def test_a_falcon_application_keeps_its_own_errors(host: Host) -> None:
    client = host.client
    assert (client.delete("/own").status_code, client.delete("/own").json()) == (500, {"own": "fault"})
    assert client.put("/own").status_code == 405
    assert client.get("/none").headers["content-type"] == "application/json"


def test_an_embedded_service_requires_tokens(redis_url: str, tmp_path: Any) -> None:
    tokens_file = tmp_path / "tokens.json"
    tokens_file.write_text('{"tokens": []}')
    for name in ("falcon_app", "starlette_app"):
        with hosted(name, redis_url, tokens_file=tokens_file) as client:
            assert client.get("/api/patterns/scan").status_code == 401
            wait_until(lambda: client.get("/api/health").json() == {"status": "healthy"}, "the service is healthy")
            assert get_own_route(client).json() == {"own": True}


def test_a_service_with_an_unknown_plugin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKVIEW_PLUGINS", "nowhere.halts")
    with pytest.raises(StartupError, match=r"TICKVIEW_PLUGINS names nowhere\.halts, which cannot be imported"):
        readapi.create_app()


def test_init_app_refuses_another_wsgi_application() -> None:
    with pytest.raises(TypeError, match=r"needs a falcon.asgi.App or a flask.Flask, not falcon.app.App"):
        readapi.init_app(falcon.App())  # type: ignore[arg-type]
