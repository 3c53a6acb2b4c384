"""``tickview up``: start the servers and all roles on this machine, restart them when they fail, and stop them."""

from collections.abc import Mapping
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event
from typing import Annotated

import orjson
import typer
from rich.text import Text

import infra.demo
from infra.access.exposure import check_exposure
from infra.embedded import Servers, hold_data_folder, publish_servers, start_servers
from infra.embedded.tcp_ports import find_free_port
from infra.plugins import configure
from infra.processes.errors import StartupError
from infra.processes.python import module_command
from infra.processes.stop_signals import stop_on_signals
from infra.processes.supervisor import Program, Supervisor
from infra.processes.terminal import TerminalConsole
from infra.settings import Settings
from infra.settings.urls import without_password

ROLES = ("archive", "record", "project", "alert", "serve")
"""The roles in the order of their start. They stop in reverse order."""

_DEMO_FOLDER = Path(infra.demo.__file__).parent / "catalogue"

_DEMO_CATALOGUE = [
    *("catalogue", "sync", "--watch", "--every", "60"),
    *("--symbols", str(_DEMO_FOLDER / "symbols.csv"), "--universes", str(_DEMO_FOLDER / "universes.json")),
]

_HEALTH_INTERVAL_SECONDS = 0.1
"""Seconds between two requests for the health of the API while it starts."""

_console = TerminalConsole()


def up(
    demo: Annotated[bool, typer.Option("--demo", help="Run the demo producer and load its catalogue, too.")] = False,
    speed: Annotated[
        float | None,
        typer.Option(
            min=infra.demo.MIN_SPEED,
            max=infra.demo.MAX_SPEED,
            help="Speed of the demo producer, in trading days per second and symbol.",
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65_535, envvar="TICKVIEW_PORT", help="Port of the API.")] = 8000,
    data: Annotated[
        Path, typer.Option(envvar="TICKVIEW_DATA", help="Folder for the data of the servers and all log files.")
    ] = Path(".tickview"),
) -> None:
    """Run TickView on this machine until Ctrl-C: all roles, and the servers whose addresses are not set.

    Example: tickview up --demo
    """
    settings = configure(data=data.resolve(), port=port)
    roles = [[role] for role in ROLES]
    if demo:
        roles.append(_DEMO_CATALOGUE)
        roles.append(["demo", *(["--speed", str(speed)] if speed is not None else [])])
    elif speed is not None:
        raise typer.BadParameter("needs --demo", param_hint="--speed")
    check_exposure(settings)
    stopping = stop_on_signals()
    with ExitStack() as stack:
        stack.enter_context(hold_data_folder(settings.data))
        _check_port(settings)
        _report("data", str(settings.data))
        supervisor = stack.enter_context(Supervisor(_report, stopping))
        servers = _start_servers(supervisor, settings)
        stack.enter_context(publish_servers(settings.data, servers))
        for role in roles:
            supervisor.start(_program(role, settings, servers))
        _wait_for_api(settings, stopping)
        stopping.wait()
        _report("up", "stopping")
    _report("up", "stopped")


def _check_port(settings: Settings) -> None:
    try:
        find_free_port(settings.host, settings.port)
    except OSError as error:
        raise StartupError(
            f"The API cannot listen on {settings.host}:{settings.port} ({error.strerror}). "
            "Stop the other program, or choose another port with --port."
        ) from error


def _start_servers(supervisor: Supervisor, settings: Settings) -> Servers:
    for name, address in (("redis", settings.redis_url), ("postgres", settings.postgres_dsn)):
        if address:
            _report(name, f"external  {without_password(address)}")
    servers = start_servers(supervisor, settings.data, redis_url=settings.redis_url, postgres_dsn=settings.postgres_dsn)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return servers.model_copy(update={"api_url": f"http://{host}:{settings.port}"})


def _program(role: list[str], settings: Settings, servers: Servers) -> Program:
    name = role[0]
    environment: Mapping[str, str] = {
        "TICKVIEW_REDIS_URL": servers.redis_url,
        "TICKVIEW_POSTGRES_DSN": servers.postgres_dsn or "",
        "TICKVIEW_DATA": str(settings.data),
        "TICKVIEW_PORT": str(settings.port),
    }
    return Program(
        name,
        module_command("infra.cli", *role),
        settings.data / "logs" / f"{name}.log",
        environment,
        address=(servers.api_url or "") if name == "serve" else "",
    )


def _wait_for_api(settings: Settings, stopping: Event) -> None:
    while not stopping.wait(_HEALTH_INTERVAL_SECONDS):
        if _reports_health(settings):
            _report("up", f"the API answers at http://{settings.host}:{settings.port}; Ctrl-C stops everything")
            return


def _reports_health(settings: Settings) -> bool:
    """Return whether the API answers on the port. Another program can have taken the port since it was checked."""
    connection = HTTPConnection(settings.host, settings.port, timeout=2.0)
    try:
        connection.request("GET", "/api/health")
        health = orjson.loads(connection.getresponse().read())
        return isinstance(health, dict) and "status" in health
    except (OSError, HTTPException, orjson.JSONDecodeError):
        return False
    finally:
        connection.close()


def _report(name: str, message: str) -> None:
    _console.print(Text.assemble((f"{name:<8} ", "bold"), message), soft_wrap=True)
