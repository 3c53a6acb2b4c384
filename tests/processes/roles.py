"""Roles as real processes, for tests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

DEADLINE_SECONDS = 60.0


def start(
    *arguments: str, redis_url: str, log: IO[bytes] | None = None, own_group: bool = False, **settings: Any
) -> subprocess.Popen[bytes]:
    """``tickview`` with these arguments on this server; settings by their names without ``TICKVIEW_``."""
    environment = {**os.environ, "TICKVIEW_REDIS_URL": redis_url}
    environment |= {f"TICKVIEW_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "infra.cli", *arguments]
    return subprocess.Popen(command, env=environment, stderr=log, start_new_session=own_group)


def tickview(
    *arguments: str, redis_url: str, stdin: bytes = b"", **settings: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    environment = {**os.environ, "TICKVIEW_REDIS_URL": redis_url}
    environment |= {f"TICKVIEW_{name.upper()}": str(value) for name, value in settings.items()}
    command = [sys.executable, "-m", "infra.cli", *arguments]
    return subprocess.run(command, env=environment, input=stdin, capture_output=True, timeout=60, check=False)


def stop(process: subprocess.Popen[bytes]) -> int:
    """End it as a person would; killed if it does not end."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    try:
        return process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@contextmanager
def running(
    *arguments: str, redis_url: str, log: IO[bytes] | None = None, **settings: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A role that runs as long as the context lasts."""
    process = start(*arguments, redis_url=redis_url, log=log, **settings)
    try:
        yield process
    finally:
        stop(process)


@contextmanager
def doomed(*arguments: str, redis_url: str, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
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
