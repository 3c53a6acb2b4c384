"""The system under chaos: ``tickview up`` with its PostgreSQL, second processes of roles, and all their faults."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.processes.python import module_command
from tests import servers
from tests.chaos.redis_servers import Fault, RedisServers
from tests.chaos.single_server import single_server
from tests.plain_http import PLAIN_HTTP
from tests.tcp_ports import free_port

ROLES = ("record", "project", "archive", "serve")

SECOND_ROLES = ("project", "archive")
"""Roles with a second process, which takes over the leases of a suspended one. It is suspended, but never killed."""

START_SECONDS = 60.0
"""Seconds within which the API answers after the start."""


class System:
    """A running system. Every fault ends by itself: the supervisor restarts what was killed.

    Args:
        redis: The Redis servers of all roles.
        parents: The process of ``tickview up``, and a second process of each of ``SECOND_ROLES``.
        api_url: The address of the API.
        data: The folder with the data and the logs.
    """

    def __init__(self, redis: RedisServers, parents: Sequence[psutil.Process], api_url: str, data: Path) -> None:
        self.redis = redis
        self.up, *self.seconds = parents
        self.api_url = api_url
        self.data = data

    @property
    def postgres_dsn(self) -> str:
        """The address of PostgreSQL."""
        return f"postgresql://postgres@/postgres?host={self.data / 'postgres'}"

    def processes_of(self, role: str) -> list[psutil.Process]:
        """Return the processes of a role under ``tickview up``: its first process and all that it has forked."""
        for child in self.up.children():
            with suppress(psutil.Error):
                if child.cmdline()[-1:] == [role]:  # a process that has ended has no command line
                    return [child, *child.children(recursive=True)]
        return []

    def second_process_of(self, role: str) -> list[psutil.Process]:
        """Return the second process of a role, if it has one. It must not have ended: nobody kills it."""
        for process in self.seconds:
            assert process.status() != psutil.STATUS_ZOMBIE, f"a second process has ended\n{self.logs()}"
        return [process for process in self.seconds if process.cmdline()[-1] == role]

    def kill_role(self, chance: random.Random) -> str:
        """Kill one process of a role."""
        role = chance.choice(ROLES)
        processes = self.processes_of(role)
        if processes:
            with suppress(psutil.Error):
                chance.choice(processes).kill()
        return f"kill {role}"

    def suspend_role(self, chance: random.Random) -> str:
        """Suspend one of the processes of a role for some seconds: it wakes up with outdated leases."""
        return self._suspend(chance, chance.choice(ROLES), chance.uniform(1, 7))

    def suspend_worker(self, chance: random.Random) -> str:
        """Suspend one of the workers until the other has taken over its leases."""
        return self._suspend(chance, "project", 4)

    def _suspend(self, chance: random.Random, role: str, seconds: float) -> str:
        choices = [self.processes_of(role), self.second_process_of(role)]
        with suspended(chance.choice([processes for processes in choices if processes] or [[]])):
            time.sleep(seconds)
        return f"suspend {role} for {seconds:.1f} s"

    def postgres_processes(self) -> list[psutil.Process]:
        """Return the processes of PostgreSQL: the first process and all that it has forked."""
        for child in self.up.children():
            with suppress(psutil.Error):
                if Path(child.exe()).name == "postgres":
                    return [child, *child.children(recursive=True)]
        return []

    def kill_postgres(self, _chance: random.Random) -> str:
        """Kill the first process of PostgreSQL, which ends all others."""
        for process in self.postgres_processes()[:1]:
            with suppress(psutil.Error):
                process.kill()
        return "kill PostgreSQL"

    def choose_fault(self, chance: random.Random) -> Fault:
        """Choose a fault of the roles, of PostgreSQL or of the Redis servers."""
        own = [*[self.kill_role] * 4, *[self.suspend_role] * 3, self.kill_postgres]
        return chance.choice(chance.choice([own, self.redis.faults]))

    def logs(self) -> str:
        """Return the end of every log."""
        files = sorted((self.data / "logs").glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-3_000:]}" for file in files)


@contextmanager
def suspended(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Suspend processes until the context ends."""
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGCONT)


StartServers = Callable[[Path, random.Random], AbstractContextManager[RedisServers]]
"""Runs Redis servers whose data are in a folder."""


@contextmanager
def running_system(
    bug: str | None = None,
    start_servers: StartServers = single_server,
    chance: random.Random | None = None,
    **settings: str,
) -> Iterator[System]:
    """Run the system until the context ends, with a planted bug if there is one.

    Args:
        bug: The bug.
        start_servers: Runs the Redis servers.
        chance: Chooses the settings of the Redis servers.
        settings: Further environment variables of all roles.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(servers.world_readable_folder())
        redis = stack.enter_context(start_servers(folder, chance or random.Random()))
        port = free_port()
        environment = {
            **os.environ,
            "TICKVIEW_REDIS_URL": redis.roles_url,
            "TICKVIEW_LEASE_SECONDS": "2",
            "TICKVIEW_API_PROCESSES": "1",
            **redis.settings,
            **settings,
        }
        if bug:
            environment |= {"CHAOS_BUG": bug, "PYTHONPATH": str(Path(__file__).parent / "planted")}
        arguments = ("up", "--port", str(port), "--data", str(folder))
        up = stack.enter_context(running(folder / "up.log", *arguments, **environment))
        url = f"http://127.0.0.1:{port}"
        _wait_for_api(url)
        environment["TICKVIEW_POSTGRES_DSN"] = f"postgresql://postgres@/postgres?host={folder / 'postgres'}"
        seconds = [
            stack.enter_context(running(folder / "logs" / f"second-{role}.log", role, **environment))
            for role in SECOND_ROLES
        ]
        _wait_for_second_processes(url)
        yield System(redis, [up, *seconds], url, folder)


@contextmanager
def running(log: Path, *arguments: str, **environment: str) -> Iterator[psutil.Process]:
    """Run a command of TickView until the context ends."""
    command = module_command("infra.cli", *arguments)
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(timeout=30)


def _wait_for_api(url: str) -> None:
    _wait_for_health(url, lambda health: health["status"] == "healthy")


def _wait_for_second_processes(url: str) -> None:
    """Wait until all processes work: one that starts ends if it cannot reach a server, and nobody restarts it."""

    def work(health: dict[str, Any]) -> bool:
        # Health has no roles while it cannot read them.
        return all(health["roles"].get(role, {"processes": 0})["processes"] >= 2 for role in SECOND_ROLES)

    _wait_for_health(url, work)


def _wait_for_health(url: str, condition: Callable[[dict[str, Any]], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    health: dict[str, Any] = {}
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            health = httpx.get(f"{url}/api/health", timeout=5, verify=PLAIN_HTTP).json()
            if condition(health):
                return
        time.sleep(0.1)
    raise AssertionError(f"the service is not ready within {START_SECONDS:g} s: {health}")
