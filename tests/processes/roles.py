"""Roles and commands of TickView as real processes."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

import orjson

from infra.cli import main
from tests.processes.fork_server import ForkedProcess

DEADLINE_SECONDS = 60.0
"""Seconds for which ``wait_until`` waits for its condition."""

WITHOUT_SCHEDULE = {"verify_every": 0}
"""A scheduled verification starts a process of its own, which imports TickView, in every archiver that runs for five
seconds. It would take a second of processor time in dozens of tests. Those of the schedule set its interval."""


def start(
    *arguments: str, redis_url: str, log: IO[bytes] | None = None, own_group: bool = False, **settings: Any
) -> ForkedProcess:
    """Start ``tickview`` with ``arguments``. The names of settings are without ``TICKVIEW_``."""
    files = {} if log is None else {2: log}
    environment = environment_of(redis_url, WITHOUT_SCHEDULE | settings)
    return ForkedProcess(main, arguments, environment, files, own_group=own_group)


def tickview(
    *arguments: str, redis_url: str, stdin: bytes = b"", **settings: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return run_to_end(main, arguments, environment_of(redis_url, settings), stdin)


def run_to_end(
    entry_point: Callable[[], object], arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a function in a process to its end. It reads ``arguments`` from ``sys.argv``."""
    with TemporaryFile() as standard_input, TemporaryFile() as output, TemporaryFile() as errors:
        standard_input.write(stdin)
        standard_input.seek(0)
        files = {0: standard_input, 1: output, 2: errors}
        process = ForkedProcess(entry_point, arguments, environment, files)
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
    """Return the environment of the test process with these settings. Their names are without ``TICKVIEW_``."""
    variables = {f"TICKVIEW_{name.upper()}": str(value) for name, value in settings.items()}
    return {**os.environ, "TICKVIEW_REDIS_URL": redis_url, **variables}


def stop(process: ForkedProcess | subprocess.Popen[bytes]) -> int:
    """Stop a process with SIGTERM and return its exit code. Kill the process if it does not end within 15 seconds."""
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
def running_role(
    *arguments: str, redis_url: str, log: IO[bytes] | None = None, **settings: Any
) -> Iterator[ForkedProcess]:
    """Run a role until the context ends."""
    process = start(*arguments, redis_url=redis_url, log=log, **settings)
    try:
        yield process
    finally:
        stop(process)


@contextmanager
def killed_role(*arguments: str, redis_url: str, **settings: Any) -> Iterator[ForkedProcess]:
    """Run a role and kill it when the context ends."""
    process = start(*arguments, redis_url=redis_url, **settings)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], Any], description: str) -> Any:
    """Call ``condition`` until its value is true, and return the value.

    The pauses grow with the time that has passed: the calls take processor time, of a service that is asked, too.
    """
    began = time.monotonic()
    while not (value := condition()):
        passed = time.monotonic() - began
        assert passed < DEADLINE_SECONDS, f"not within {DEADLINE_SECONDS} s: {description}"
        time.sleep(min(max(0.02, passed / 20), 0.25))
    return value
