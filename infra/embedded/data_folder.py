"""The data folder of the embedded servers: who holds it, and where its servers are."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

from pydantic import BaseModel

from infra.processes.errors import StartupError


class Servers(BaseModel, frozen=True):
    """Where the servers of a data folder are."""

    redis_url: str
    postgres_dsn: str | None = None
    api_url: str | None = None


@contextmanager
def hold_data_folder(data: Path) -> Iterator[None]:
    """Hold the data folder, made if it is missing. Raises StartupError, naming the holder, if somebody else does."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("a+")
    except OSError as error:
        raise StartupError(f"the data folder cannot be used: {error}; choose another with --data") from error
    with lock:
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise StartupError(
                f"the data folder {data.resolve()} is in use by process {lock.read().strip()}: "
                "stop that first, or choose another folder with --data"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def publish_servers(data: Path, servers: Servers) -> Iterator[None]:
    """Let ``find_servers`` find ``servers`` while the context lasts."""
    file = _file(data)
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode=0o600), "wb") as output:
        flock(output, LOCK_EX)  # Shows readers that we live: the kernel lets go of it with the process.
        output.write(servers.model_dump_json(indent=2).encode())
        output.flush()
        new.replace(file)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def find_servers(data: Path) -> Servers | None:
    """The servers of the ``tickview up`` that runs on ``data``; None if none does."""
    try:
        file = _file(data).open("rb")
    except FileNotFoundError:
        return None
    with file:
        try:
            flock(file, LOCK_SH | LOCK_NB)
        except BlockingIOError:
            return Servers.model_validate_json(file.read())
    return None


def _file(data: Path) -> Path:
    return data / "up.json"
