"""``tickview bench`` uses only its own servers and folders, and nothing that it started survives it."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis

from infra.postgres.database import Database
from infra.processes.python import module_command
from tests import servers
from tests.processes.roles import wait_until

BENCH = module_command("infra.cli", "bench", "replay", "--events", "1000", "--runner-events", "100", "--seconds", "0.1")


@pytest.fixture
def folder() -> Iterator[Path]:
    """The folder for temporary files of a benchmark."""
    with servers.world_readable_folder() as created:
        yield created


@pytest.fixture
def environment(folder: Path, redis_url: str, database: Database) -> dict[str, str]:
    """The environment of a service that runs beside the benchmark."""
    settings = {"REDIS_URL": redis_url, "POSTGRES_DSN": database.dsn, "DATA": str(folder / "data")}
    return {
        **os.environ,
        **{f"TICKVIEW_{name}": value for name, value in settings.items()},
        "TICKVIEW_PARTITIONS": "7",
        "TMPDIR": str(folder),
    }


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_a_benchmark_touches_no_other_server(environment: dict[str, str], redis: Redis, database: Database) -> None:
    completed = subprocess.run(BENCH, env=environment, capture_output=True, timeout=120, check=False)
    assert completed.returncode == 0, completed.stderr
    assert redis.dbsize() == 0
    with database.connection() as connection:
        [[logs, losses]] = connection.execute(
            "SELECT (SELECT count(*) FROM tickview.logs), (SELECT count(*) FROM tickview.losses)"
        )
    assert (logs, losses) == (0, 0)


@pytest.mark.parametrize("server", ["valkey-server", "initdb", "postgres"])
def test_nothing_survives_a_benchmark_that_is_killed(environment: dict[str, str], folder: Path, server: str) -> None:
    process = subprocess.Popen(BENCH, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        started = wait_until(
            lambda: (found := descendants(process)) and server in {name_of(each) for each in found} and found,
            "the server runs",
        )
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: not any(is_running(each) for each in started), "every process has ended")
    wait_until(lambda: not list(folder.glob("tickview-bench-*")), "the folder is removed")


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
