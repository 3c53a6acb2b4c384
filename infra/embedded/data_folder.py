"""The data folder of the embedded servers: its lock, and the file with the addresses of its servers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

from pydantic import BaseModel

from infra.processes.errors import StartupError


class Servers(BaseModel, frozen=True):
    """The addresses of the servers of a data folder."""

    redis_url: str
    postgres_dsn: str | None = None
    api_url: str | None = None


@contextmanager
def hold_data_folder(data: Path) -> Iterator[None]:
    """Hold the lock of the data folder until the context ends. Create the folder if it is missing.

    Raises:
        StartupError: Another process holds the lock, whose process id the message contains, or the folder cannot be
            created.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("a+")
    except OSError as error:
        raise StartupError(f"The data folder cannot be used: {error}. Choose another folder with --data.") from error
    with lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise StartupError(
                f"The data folder {data.resolve()} is in use by process {lock.read().strip()}. "
                "Stop this process, or choose another folder with --data."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def publish_servers(data: Path, servers: Servers) -> Iterator[None]:
    """Store the addresses of the servers in the data folder until the context ends, for ``find_servers``."""
    file = _servers_file(data)
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600), "wb") as output:
        flock(output, LOCK_EX)  # The lock shows that this process runs: the kernel releases it at the end.
        output.write(servers.model_dump_json(indent=2).encode())
        output.flush()
        new.replace(file)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def find_servers(data: Path) -> Servers | None:
    """Return the servers of the ``tickview up`` that runs on a data folder, None if there is none."""
    try:
        file = _servers_file(data).open("rb")
    except FileNotFoundError:
        return None
    with file:
        try:
            flock(file, LOCK_SH | LOCK_NB)
        except BlockingIOError:
            return Servers.model_validate_json(file.read())
    return None


def _servers_file(data: Path) -> Path:
    return data / "up.json"
