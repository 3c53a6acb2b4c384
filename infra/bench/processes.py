"""Servers and processes of a benchmark: embedded servers, and modules of TickView that answer over HTTP."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from redis import Redis

from infra.bench.errors import BenchmarkError
from infra.bench.measurement import PROGRESS_CONSOLE
from infra.embedded import embedded_servers
from infra.processes.lifeline import SUPERVISED
from infra.processes.python import module_command
from infra.redis.connections import connect
from infra.redis.functions import load

FOREIGN_PREFIXES = ("TICKVIEW_", "TICKSTOCK_", "REDIS_")
"""Beginnings of the names of environment variables that settings are read from."""


@contextmanager
def benchmark_servers(postgres: bool = False) -> Iterator[tuple[Redis, str, str]]:
    """Start a Valkey server, and optionally a PostgreSQL server, with data that is deleted at the end.

    Yields:
        A client of the Valkey server, its URL, and the DSN of the PostgreSQL server (empty without PostgreSQL).
    """
    with tempfile.TemporaryDirectory(prefix="tickview-bench-") as folder, _reaped(folder):
        PROGRESS_CONSOLE.print("starting a server for the benchmark …", style="dim")
        with embedded_servers(Path(folder), postgres=postgres) as servers, connect(servers.redis_url) as client:
            load(client)
            yield client, servers.redis_url, servers.postgres_dsn or ""


@contextmanager
def _reaped(folder: str) -> Iterator[None]:
    """Let nothing in a folder survive this process, however it ends (``infra/bench/reaper.py``)."""
    reaper = subprocess.Popen(  # noqa: S603
        module_command("infra.bench.reaper", folder), stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        reaper.communicate()


def isolate_environment() -> None:
    """Remove the settings of TickView and of the platform, so that a benchmark uses its own servers and folders."""
    for name in list(os.environ):
        if name.startswith(FOREIGN_PREFIXES):
            del os.environ[name]


@contextmanager
def run_module(port: int, words: tuple[str, ...], settings: Mapping[str, object]) -> Iterator[int]:
    """Run a module of TickView as a process until the context ends. Yield its process id once it answers.

    Args:
        port: The port on which the module answers over HTTP.
        words: The name of the module and its arguments.
        settings: Settings of TickView by their field names, passed as environment variables.

    Raises:
        BenchmarkError: The process ended before it answered.
    """
    with start_module(words, settings) as process:
        while not answers(port):
            if process.poll() is not None:
                raise BenchmarkError(f"The process {words[0]} ended at its start with exit code {process.returncode}.")
            time.sleep(0.05)
        yield process.pid


@contextmanager
def start_module(words: Sequence[str], settings: Mapping[str, object]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a module of TickView as a process that ends with the context or with this process, however it ends.

    Args:
        words: The name of the module and its arguments.
        settings: Settings of TickView by their field names, passed as environment variables.
    """
    environment = {**os.environ, **{f"TICKVIEW_{name.upper()}": str(value) for name, value in settings.items()}}
    environment[SUPERVISED] = "1"
    # This process alone holds the other end of the standard input.
    process = subprocess.Popen(module_command(*words), env=environment, stdin=subprocess.PIPE)  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


@contextmanager
def serve_api(url: str, port: int, **settings: object) -> Iterator[int]:
    """Run the API as a process until the context ends. Yield its process id once it answers."""
    api_settings = {"redis_url": url, "log_level": "error", **settings}
    with run_module(port, ("infra.cli", "serve", "--port", str(port)), api_settings) as pid:
        yield pid


def answers(port: int) -> bool:
    """Return whether the process on this port answers over HTTP.

    The status does not matter: the API reports the lack of workers, which a benchmark of queries does not run.
    """
    try:
        with urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2):
            return True
    except HTTPError:
        return True
    except OSError:
        return False
