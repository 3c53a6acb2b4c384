"""Embedded servers, Valkey and PostgreSQL, for a machine without servers. Both store their data in one data folder.

A supervisor runs both as child processes. The data folder contains their addresses, so that other processes can find
them.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from infra.embedded.data_folder import Servers, find_servers, hold_data_folder, publish_servers
from infra.embedded.postgres import start_postgres
from infra.embedded.valkey import start_valkey
from infra.processes.supervisor import Supervisor

__all__ = ["Servers", "embedded_servers", "find_servers", "hold_data_folder", "publish_servers", "start_servers"]


def start_servers(
    supervisor: Supervisor, data: Path, *, redis_url: str | None = None, postgres_dsn: str | None = None
) -> Servers:
    """Start the servers whose address is None, both at the same time. The caller must hold the data folder.

    Args:
        supervisor: The supervisor that runs the servers.
        data: The data folder.
        redis_url: The URL of an existing Redis, which replaces the embedded server.
        postgres_dsn: The DSN of an existing PostgreSQL, which replaces the embedded server.

    Returns:
        The addresses of both servers.

    Raises:
        StartupError: A server does not start.
    """
    with ThreadPoolExecutor(2) as pool:
        valkey = pool.submit(lambda: redis_url or start_valkey(supervisor, data))
        postgres = pool.submit(lambda: postgres_dsn or start_postgres(supervisor, data))
    return Servers(redis_url=valkey.result(), postgres_dsn=postgres.result())


@contextmanager
def embedded_servers(data: Path, postgres: bool = True) -> Iterator[Servers]:
    """Run the embedded servers, without any role, until the context ends. Their data stays in the data folder.

    Args:
        data: The data folder. It is created if it is missing.
        postgres: Whether to run PostgreSQL too.

    Raises:
        StartupError: A server does not start, or the data folder is in use.
    """
    with hold_data_folder(data), Supervisor(_ignore_report, Event()) as supervisor:
        if postgres:
            yield start_servers(supervisor, data)
        else:
            yield Servers(redis_url=start_valkey(supervisor, data))


def _ignore_report(_name: str, _description: str) -> None:
    pass
