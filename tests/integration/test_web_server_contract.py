"""The contract of ``infra/web_server`` with gunicorn, uvicorn, uvicorn-worker, httptools and websockets.

The first part lists every private part of these libraries that the adapter overrides or reads. The second part checks
on a real server what the adapter promises. If an upgrade breaks the adapter, these tests say where.
"""

import asyncio
import inspect
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config as GunicornConfig
from gunicorn.workers.base import Worker
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from uvicorn_worker import UvicornWorker
from websockets.sync.client import connect

from infra.web_server.gunicorn import IDLE_SECONDS, KILL_SECONDS, LISTENERS, ApiArbiter, ApiWorker, Server
from infra.web_server.request_limits import HEAD_BYTES, LimitedHttpProtocol
from infra.web_server.uvicorn import HttpStream, WebSocketStream
from tests.plain_http import PLAIN_HTTP
from tests.processes.roles import stop, wait_until
from tests.tcp_ports import free_port

LIBRARIES = ("gunicorn", "uvicorn", "uvicorn-worker", "httptools", "websockets")
INSTALLED = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
ADVICE = f"infra/web_server does not fit the installed libraries ({INSTALLED}): "

OVERRIDDEN: dict[type, tuple[type, dict[str, tuple[str, ...]]]] = {
    LimitedHttpProtocol: (
        HttpToolsProtocol,
        {
            "connection_made": ("transport",),
            "data_received": ("data",),
            "on_message_begin": (),
            "on_headers_complete": (),
            "on_body": ("body",),
            "on_message_complete": (),
            "send_400_response": ("msg",),
            "pause_writing": (),
            "resume_writing": (),
            "on_response_complete": (),
            "timeout_keep_alive_handler": (),
            "connection_lost": ("exc",),
            "_unsupported_upgrade_warning": (),
            "_start_asgi_task": ("cycle", "app"),
        },
    ),
    HttpStream: (
        HttpToolsProtocol,
        {
            "on_message_begin": (),
            "_start_asgi_task": ("cycle", "app"),
            "connection_lost": ("exc",),
            "shutdown": (),
        },
    ),
    WebSocketStream: (
        WebSocketsSansIOProtocol,
        {
            "data_received": ("data",),
            "handle_ping": (),
            "handle_cont": ("event",),
            "handle_connect": ("event",),
            "send": ("message",),
            "shutdown": (),
        },
    ),
    ApiWorker: (UvicornWorker, {"init_process": (), "init_signals": (), "handle_exit": ("sig", "frame")}),
    ApiArbiter: (Arbiter, {"handle_hup": (), "spawn_worker": ()}),
    Server: (BaseApplication, {"load_config": (), "load": (), "run": ()}),
}
"""Adapter class -> class of the library, and the methods that the adapter overrides with their parameters."""


@pytest.mark.parametrize("adapter", OVERRIDDEN, ids=lambda adapter: adapter.__name__)
def test_overridden_methods_exist_with_their_parameters(adapter: type) -> None:
    library, methods = OVERRIDDEN[adapter]
    for name, parameters in methods.items():
        method = getattr(library, name, None)
        assert method is not None, f"{ADVICE}{library.__name__}.{name} does not exist"
        actual = tuple(inspect.signature(method).parameters)[1:]
        assert actual == parameters, f"{ADVICE}{library.__name__}.{name} has the parameters {actual}, not {parameters}"


@pytest.mark.parametrize("adapter", OVERRIDDEN, ids=lambda adapter: adapter.__name__)
def test_every_overridden_method_is_listed(adapter: type) -> None:
    library, methods = OVERRIDDEN[adapter]
    overriding = {
        name
        for name, value in vars(adapter).items()
        if inspect.isfunction(value) and name != "__init__" and hasattr(library, name)
    }
    assert overriding == set(methods), "list the method in OVERRIDDEN"


def assert_has(owner: Any, kind: str, names: str) -> None:
    missing = [name for name in names.split() if not hasattr(owner, name)]
    assert not missing, f"{ADVICE}{kind} has no {', '.join(missing)}"


async def answer(_scope: Any, _receive: Any, _send: Any) -> None:
    """An ASGI application that never answers."""
    await asyncio.Event().wait()


def check_open_protocol(make: Callable[..., Any], data: bytes, check: Callable[[Any], None]) -> None:
    """Check a protocol of uvicorn that has received data from a socket, and whose connection is open."""

    async def receive() -> None:
        config = uvicorn.Config(answer, http=HttpToolsProtocol, ws=WebSocketsSansIOProtocol, log_config=None)
        config.load()
        server_end, client_end = socket.socketpair()
        with client_end:
            transport, protocol = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: make(config, ServerState(), {}), server_end
            )
            client_end.sendall(data)
            async with asyncio.timeout(10):
                while not protocol.tasks:
                    await asyncio.sleep(0)
            check(protocol)
            for task in protocol.tasks:
                task.cancel()
            transport.abort()

    asyncio.run(receive())


def test_the_http_protocol_has_what_the_adapter_reads() -> None:
    def check(protocol: Any) -> None:
        assert_has(
            protocol, "HttpToolsProtocol", "timeout_keep_alive_task scope headers parser transport cycle pipeline"
        )
        assert_has(protocol, "HttpToolsProtocol", "loop flow url _should_upgrade")
        assert_has(
            protocol.parser,
            "httptools' HttpRequestParser",
            "get_http_version get_method should_upgrade set_dangerous_leniencies",
        )
        assert_has(protocol.cycle, "RequestResponseCycle", "response_started response_complete keep_alive")
        assert_has(protocol.cycle, "RequestResponseCycle", "disconnected message_event")
        assert inspect.iscoroutinefunction(protocol.flow.drain), f"{ADVICE}FlowControl.drain is not a coroutine"
        assert protocol.headers == [(b"host", b"localhost")], (
            f"{ADVICE}headers are not pairs of lower-case name and value"
        )
        assert protocol.parser.get_http_version() == "1.1"

    check_open_protocol(HttpToolsProtocol, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", check)


def test_the_running_request_is_told_of_the_lost_connection_although_another_one_waits() -> None:
    async def pipeline_and_close() -> list[str]:
        began, ended, received = asyncio.Event(), asyncio.Event(), list[str]()

        async def application(_scope: Any, receive: Any, send: Any) -> None:
            received.append((await receive())["type"])
            began.set()
            received.append((await receive())["type"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"nobody reads this"})
            ended.set()

        config = uvicorn.Config(
            application, http=LimitedHttpProtocol, ws=WebSocketsSansIOProtocol, lifespan="off", log_config=None
        )
        config.load()
        server_end, client_end = socket.socketpair()
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: LimitedHttpProtocol(config, ServerState(), {}), server_end
        )
        with client_end:
            client_end.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n" * 2)
            await began.wait()
        await ended.wait()
        return received

    received = asyncio.run(asyncio.wait_for(pipeline_and_close(), 10))
    assert received == ["http.request", "http.disconnect"]


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)


def test_the_websocket_protocol_has_what_the_adapter_reads() -> None:
    def check(protocol: Any) -> None:
        assert_has(
            protocol, "WebSocketsSansIOProtocol", "conn handshake_initiated handshake_complete transport scope loop"
        )
        assert_has(protocol, "WebSocketsSansIOProtocol", "close_sent disconnected writable close_timer receive")
        assert_has(protocol.conn, "websockets' ServerProtocol", "handshake_exc data_to_send send_close")
        assert protocol.conn.handshake_exc is None
        assert (protocol.handshake_initiated, protocol.handshake_complete) == (True, False), ADVICE + "handshake flags"
        assert isinstance(protocol.writable, asyncio.Event), f"{ADVICE}writable is not an event"
        assert "websocket.http.response" in protocol.scope["extensions"], f"{ADVICE}a handshake cannot be refused"

    check_open_protocol(WebSocketsSansIOProtocol, HANDSHAKE, check)


def test_gunicorn_has_what_the_adapter_calls() -> None:
    assert isinstance(UvicornWorker.CONFIG_KWARGS, dict), f"{ADVICE}UvicornWorker has no CONFIG_KWARGS"
    assert_has(UvicornWorker, "UvicornWorker", "_install_sigquit_handler")
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT} <= set(Worker.SIGNALS), f"{ADVICE}signals of a worker"
    with pytest.raises(StopIteration):
        Arbiter.handle_term(object.__new__(Arbiter))
    assert uvicorn.Config(answer, **ApiWorker.CONFIG_KWARGS).ws is WebSocketStream
    known = GunicornConfig().settings
    read_settings = {
        *("worker_class", "bind", "workers", "proc_name", "on_exit", "loglevel", "logconfig_dict"),
        *("graceful_timeout", "keepalive", "control_socket_disable"),
    }
    assert read_settings <= set(known), f"{ADVICE}unknown settings {read_settings - set(known)}"


def test_idle_connections_outlive_those_of_clients() -> None:
    """Otherwise a client may send a request into a connection that the server is closing."""
    assert Server({}, answer).cfg.keepalive == IDLE_SECONDS > 60


def test_the_versions_of_the_libraries_have_an_upper_bound() -> None:
    config = ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    requirements = config["options"]["install_requires"].split()
    for name in ("gunicorn", "uvicorn", "uvicorn-worker"):
        [requirement] = [entry for entry in requirements if entry.partition(">=")[0] == name]
        assert ",<" in requirement, f"{name} needs an upper bound in setup.cfg"


APPLICATION = """
import sys
from infra.processes.logs import LIBRARY_LOGS
from infra.web_server import request_limits
from infra.web_server.gunicorn import Server
from readapi.http.client_stream import STREAM

request_limits.HEAD_SECONDS = 0.5

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("stopped in order", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": type(scope["extensions"][STREAM]).__name__})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": type(scope["extensions"][STREAM]).__name__.encode()})

options = {"bind": f"127.0.0.1:{sys.argv[1]}", "workers": 1, "control_socket_disable": True,
           "logconfig_dict": LIBRARY_LOGS, "loglevel": "warning"}
Server(options, application).run()
"""
"""A server that answers with the kind of stream in the scope, and reports its orderly end."""


class ServerProcess:
    """A process that serves ``APPLICATION``."""

    def __init__(self) -> None:
        self.port = free_port()
        command = [sys.executable, "-c", APPLICATION, str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/", timeout=30, verify=PLAIN_HTTP).status_code == 200
        except httpx.TransportError:
            return False

    def status_of(self, request: bytes) -> int:
        """Send bytes and return the status of the response, after which the server closes the connection."""
        response = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            try:
                connection.sendall(request)
                while chunk := connection.recv(65_536):
                    response += chunk
            except (BrokenPipeError, ConnectionResetError):
                pass
        return int(response.split()[1])


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    server_process = ServerProcess()
    try:
        wait_until(server_process.answers, "the server answers")
        yield server_process
    finally:
        stop(server_process.process)
        assert server_process.process.stdout is not None
        server_process.process.stdout.close()


def test_the_server_provides_streams_and_enforces_limits(server: ServerProcess) -> None:
    assert httpx.get(f"http://127.0.0.1:{server.port}/", verify=PLAIN_HTTP).text == "HttpStream"
    with connect(f"ws://127.0.0.1:{server.port}/", compression=None) as websocket:
        assert websocket.recv(timeout=30) == "WebSocketStream"
    assert server.status_of(b"nonsense\r\n\r\n") == 400
    assert server.status_of(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n") == 400
    assert server.status_of(b"GET / HTTP/1.1\r\nhost: a\r\nx-long: " + b"b" * HEAD_BYTES + b"\r\n\r\n") == 431
    assert server.status_of(b"GET / HTTP/1.1\r\n") == 408
    assert server.status_of(HANDSHAKE.replace(b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\n")) == 400


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the proc file system of Linux")
def test_a_worker_has_16_listeners_on_its_socket(server: ServerProcess) -> None:
    assert listeners(server) == LISTENERS == 16


def listeners(server: ServerProcess) -> int:
    """Count the file descriptors of the worker that share the listening socket of the server."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    [worker] = children
    rows = [line.split() for line in Path(f"/proc/{worker}/net/tcp").read_text().splitlines()[1:]]
    [inode] = [row[9] for row in rows if row[1].endswith(f":{server.port:04X}") and row[3] == "0A"]
    links = [str(entry.readlink()) for entry in Path(f"/proc/{worker}/fd").iterdir() if entry.is_symlink()]
    return links.count(f"socket:[{inode}]")


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["arbiter", "group"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_every_stop_signal_ends_the_processes_in_order(
    server: ServerProcess, number: signal.Signals, send: Callable[[int, int], None]
) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/", compression=None) as websocket:
        websocket.recv(timeout=30)
        send(server.process.pid, number)
        assert server.process.wait(timeout=2 * KILL_SECONDS) == 0
    assert server.process.stdout is not None
    assert server.process.stdout.read().count(b"stopped in order") == 1
