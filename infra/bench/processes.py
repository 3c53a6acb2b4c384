"""What benchmarks run: servers of their own, and programs that answer HTTP."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from redis import Redis

from infra.bench.measurement import PROGRESS
from infra.embedded import embedded_servers
from infra.processes.errors import StartupError
from infra.processes.python import module_command
from infra.redis.connections import connect
from infra.redis.functions import load


@contextmanager
def own_server(postgres: bool = False) -> Iterator[tuple[Redis, str, str]]:
    """An embedded Valkey for the benchmark alone, and a PostgreSQL if asked for: a client, URL and DSN."""
    with tempfile.TemporaryDirectory(prefix="tickview-bench-") as folder:
        PROGRESS.print("starting a server for the benchmark …", style="dim")
        with embedded_servers(Path(folder), postgres=postgres) as servers, connect(servers.redis_url) as client:
            load(client)
            yield client, servers.redis_url, servers.postgres_dsn or ""


@contextmanager
def running(port: int, words: tuple[str, ...], settings: Mapping[str, object]) -> Iterator[int]:
    """A module of ours as a process of these settings, answering on ``port``; yields its process id.

    Raises StartupError if it ends instead.
    """
    environment = {**os.environ, **{f"TICKVIEW_{name.upper()}": str(value) for name, value in settings.items()}}
    process = subprocess.Popen(module_command(*words), env=environment)  # noqa: S603
    try:
        while not answers(port):
            if process.poll() is not None:
                raise StartupError(f"{words[0]} did not start")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


@contextmanager
def serving(url: str, port: int, **settings: object) -> Iterator[int]:
    """The API as a process, answering; yields its process id."""
    asked = {"redis_url": url, "log_level": "error", **settings}
    with running(port, ("infra.cli", "serve", "--port", str(port)), asked) as pid:
        yield pid


def answers(port: int) -> bool:
    """Whether the health of what is there is good."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2):
            return True
    except OSError:
        return False
