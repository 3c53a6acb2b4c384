"""Roles as real processes, for tests."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

import orjson

from tests.processes.fork_server import ForkedProcess

DEADLINE_SECONDS = 60.0


def start(
    *arguments: str, redis_url: str, log: IO[bytes] | None = None, own_group: bool = False, **settings: Any
) -> ForkedProcess:
    """Start ``tickview`` with these arguments on this server. Settings have their names without ``TICKVIEW_``."""
    files = {} if log is None else {2: log}
    return ForkedProcess(arguments, environment_of(redis_url, settings), files, own_group=own_group)


def tickview(
    *arguments: str, redis_url: str, stdin: bytes = b"", **settings: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    with TemporaryFile() as given, TemporaryFile() as output, TemporaryFile() as errors:
        given.write(stdin)
        given.seek(0)
        files = {0: given, 1: output, 2: errors}
        process = ForkedProcess(arguments, environment_of(redis_url, settings), files, own_group=False)
        try:
            code = process.wait(timeout=60)
        finally:
            process.kill()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(["tickview", *arguments], code, output.read(), errors.read())


def tickview_json(*arguments: str, redis_url: str, **settings: Any) -> Any:
    """Run a command with ``--json`` and return its output."""
    completed = tickview(*arguments, "--json", redis_url=redis_url, **settings)
    assert completed.returncode == 0, completed.stderr
    return orjson.loads(completed.stdout)


def environment_of(redis_url: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return this process's environment with the settings, by their names without ``TICKVIEW_``."""
    variables = {f"TICKVIEW_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, "TICKVIEW_REDIS_URL": redis_url, **variables}


def stop(process: ForkedProcess | subprocess.Popen[bytes]) -> int:
    """End it as a person would; killed if it does not end."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    try:
        return process.wait(timeout=15)
    except (TimeoutError, subprocess.TimeoutExpired):
        process.kill()
        process.wait()
        raise


@contextmanager
def running(*arguments: str, redis_url: str, log: IO[bytes] | None = None, **settings: Any) -> Iterator[ForkedProcess]:
    """A role that runs as long as the context lasts."""
    process = start(*arguments, redis_url=redis_url, log=log, **settings)
    try:
        yield process
    finally:
        stop(process)


@contextmanager
def doomed(*arguments: str, redis_url: str, **settings: Any) -> Iterator[ForkedProcess]:
    """A role that is killed at the end of the context, whatever it is doing then."""
    process = start(*arguments, redis_url=redis_url, **settings)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of ``condition``, asked again and again."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.02)
    return value
