"""One line puts the service into an application that somebody has: real frameworks, real HTTP, a real store."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import falcon
import httpx
import orjson
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import readapi
from tests import servers
from tests.processes.api_service import detection, post
from tests.processes.roles import running_role, stop, wait_until

HOSTS = {"falcon_app": "", "starlette_app": "/market", "fastapi_app": "/market", "django_app": ""}
"""Application -> where in it TickView is."""

OUR_PROTOCOLS = ("--http", "infra.web_server.uvicorn:HttpStream", "--ws", "infra.web_server.uvicorn:WebSocketStream")


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    with servers.valkey() as server, running_role("project", redis_url=server.connection_url):
        yield server.connection_url


@contextmanager
def hosted(name: str, redis_url: str, *more: str, **settings: Any) -> Iterator[httpx.Client]:
    """The application under uvicorn, and a client of the service in it."""
    port = servers.free_port()
    environment = {**os.environ, "TICKVIEW_REDIS_URL": redis_url, "TICKVIEW_WAIT_SECONDS": "30"}
    environment |= {f"TICKVIEW_{setting.upper()}": str(value) for setting, value in settings.items()}
    application = ("--factory", f"tests.processes.hosts:{name}", "--port", str(port), *more)
    process = subprocess.Popen([sys.executable, "-m", "uvicorn", *application], env=environment)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}{HOSTS[name]}", timeout=60) as client:
            wait_until(lambda: answers(client), "the application answers")
            yield client
    finally:
        stop(process)


def own(client: httpx.Client) -> httpx.Response:
    return client.get(str(client.base_url.copy_with(path="/own")))


def answers(client: httpx.Client) -> bool:
    try:
        return own(client).json() == {"own": True}
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("name", HOSTS)
def test_it_answers_in_somebody_elses_application(redis_url: str, name: str) -> None:
    with hosted(name, redis_url) as client:
        # The first request of all starts what the application may not have been told to start.
        header = post(client, [detection(name)])
        scan = client.get("/api/patterns/scan", params={"symbols": name}, headers=header)
        assert scan.json()["pagination"]["total"] == 1, scan.text
        refused = client.get("/api/patterns/scan?nonsense=1")
        assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
        assert client.get("/api/health").json()["status"] == "healthy"
        document = client.get("/openapi.json").json()
        assert document["servers"] == [{"url": HOSTS[name] or "/"}]
        assert "/api/patterns/scan" in document["paths"]
        begun = client.post("/api/users/watchlists", json={"name": name})
        place = begun.url.join(begun.headers["location"])
        known = {"TickView-Min-Position": begun.headers["tickview-position"]}
        assert client.get(place, headers=known).json() == begun.json()
        assert own(client).json() == {"own": True}


@pytest.mark.parametrize("name", HOSTS)
def test_live_push_needs_our_protocols_and_says_so(redis_url: str, name: str) -> None:
    with hosted(name, redis_url) as client:
        refused = client.get("/api/patterns/stream")
        assert (refused.status_code, refused.json()["type"]) == (501, "urn:tickview:problem:no-live-push")
        assert "--http infra.web_server.uvicorn:HttpStream" in refused.json()["detail"]
        with pytest.raises(InvalidStatus) as closed:
            connect(websocket_url(client))
        assert closed.value.response.status_code == 403


@pytest.mark.parametrize("name", HOSTS)
def test_live_push_works_with_them(redis_url: str, name: str) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(hosted(name, redis_url, *OUR_PROTOCOLS))
        # Who comes before the first build is known is told to begin anew when it is.
        wait_until(lambda: source(client) == "replica", "the replica answers")
        websocket = stack.enter_context(connect(f"{websocket_url(client)}?symbols=L-{name}"))
        stream = client.stream("GET", "/api/patterns/stream", params={"symbols": f"L-{name}"})
        events = stack.enter_context(stream)
        lines = events.iter_lines()
        assert orjson.loads(websocket.recv(timeout=30))["type"] == "ready"
        assert next(lines) == "event: ready"
        post(client, [detection(f"L-{name}")])
        assert orjson.loads(websocket.recv(timeout=30))["type"] == "changes"
        while next(lines) != "event: changes":
            pass


def source(client: httpx.Client) -> Any:
    return client.get("/api/patterns/scan").json()["performance"]["source"]


def websocket_url(client: httpx.Client) -> str:
    return str(client.base_url.copy_with(scheme="ws")).rstrip("/") + "/ws/patterns"


def test_a_falcon_application_keeps_its_own_errors(redis_url: str) -> None:
    with hosted("falcon_app", redis_url) as client:
        assert (client.delete("/own").status_code, client.delete("/own").json()) == (500, {"own": "fault"})
        assert client.put("/own").status_code == 405
        assert client.get("/none").headers["content-type"] == "application/json"


def test_the_guard_is_there_too(redis_url: str, tmp_path: Any) -> None:
    file = tmp_path / "tokens.json"
    file.write_text('{"tokens": []}')
    for name in ("falcon_app", "starlette_app"):
        with hosted(name, redis_url, tokens_file=file) as client:
            assert client.get("/api/patterns/scan").status_code == 401
            assert client.get("/api/health").json() == {"status": "healthy"}
            assert own(client).json() == {"own": True}


def test_what_is_no_falcon_application_of_asgi_is_refused() -> None:
    with pytest.raises(TypeError, match=r"needs a falcon.asgi.App, not falcon.app.App"):
        readapi.init_app(falcon.App())  # type: ignore[arg-type]
