"""The servers that TickView brings along, for a machine that has none: Valkey and PostgreSQL, one data folder.

Both run as programs of a supervisor, each in a session of its own. Where they are is written to the data folder, so
that other processes find them.
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
    """Start, side by side, those servers whose address is not given. The caller holds the lock of ``data``.

    Raises StartupError if one does not start.
    """
    with ThreadPoolExecutor(2) as pool:
        valkey = pool.submit(lambda: redis_url or start_valkey(supervisor, data))
        postgres = pool.submit(lambda: postgres_dsn or start_postgres(supervisor, data))
    return Servers(redis_url=valkey.result(), postgres_dsn=postgres.result())


@contextmanager
def embedded_servers(data: Path, postgres: bool = True) -> Iterator[Servers]:
    """The servers alone, without any role, kept running until the context ends. What they hold stays in ``data``.

    Raises StartupError if one does not start, or if ``data`` is in use.
    """
    with hold_data_folder(data), Supervisor(_say_nothing, Event()) as supervisor:
        if postgres:
            yield start_servers(supervisor, data)
        else:
            yield Servers(redis_url=start_valkey(supervisor, data))


def _say_nothing(name: str, what: str) -> None:
    pass
