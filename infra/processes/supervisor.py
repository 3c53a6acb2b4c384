"""A supervisor of child processes: start, restart with exponential back-off, and stop in reverse order.

Every child process leads a separate session. Ctrl-C in a terminal therefore reaches only the supervisor, and the
supervisor can kill a child together with the processes that the child has forked. The standard input of a child is the
lifeline of ``infra.processes.lifeline``.
"""

import os
import pwd
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import STDOUT, Popen, TimeoutExpired
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self

from infra.processes.disk import full_disk, rotate_log
from infra.processes.errors import StartupError
from infra.processes.lifeline import SUPERVISED

LOG_CHECK_SECONDS = 5.0
"""Seconds between two checks of the size of a log file."""

_LAST_LINE_BYTES = 1_000
"""Bytes of the end of a log file that contain the reported last line."""

_FRAME = " \t│╭╮╰╯─"
"""Characters around the words of a line. The command line frames its errors."""

_READY_POLL_SECONDS = 0.02
"""Seconds between two checks whether a program is ready."""

Report = Callable[[str, str], None]
"""Receives the name of a program and a description of its start or end. Several threads call it."""


@dataclass(frozen=True)
class Program:
    """A program to run."""

    name: str
    argv: Sequence[str]
    log: Path
    """File to which the output of the program is appended."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the program, in addition to the variables of the supervisor."""
    address: str = ""
    """Address on which the program listens, for the reports."""
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    """System user that runs the program; None for the user of the supervisor."""


@dataclass(frozen=True)
class Backoff:
    """The seconds to wait before a restart. They double with each restart."""

    initial: float = 0.2
    """Seconds before the first restart."""
    maximum: float = 10.0
    """Highest number of seconds before a restart."""
    reset_after: float = 30.0
    """Seconds of running after which the next restart counts as the first."""


DEFAULT_BACKOFF = Backoff()
"""The back-off of a supervisor for which none is given."""


def user_arguments(user: str | None) -> dict[str, Any]:
    """Return the arguments of ``Popen`` that run a process as ``user``, without the groups of this process.

    There are no arguments if ``user`` is None.
    """
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


class Supervisor:
    """A context manager that runs programs. Its exit stops all programs, the last started first, and waits for them.

    Args:
        report: Receives a description of each start and each end of a program.
        stopping: Ends all restarts and all waits for a program to become ready, when it is set.
        backoff: The seconds to wait before a restart.
        stop_seconds: Seconds within which the exit stops all programs. Each program gets a share of this time, and is
            killed when the share is over.
    """

    def __init__(
        self,
        report: Report,
        stopping: Event,
        backoff: Backoff = DEFAULT_BACKOFF,
        stop_seconds: float = 9.0,
    ) -> None:
        self._report = report
        self._stopping = stopping
        self._backoff = backoff
        self._stop_seconds = stop_seconds
        self._children: list[_Child] = []
        self._starting = Lock()
        self._log_rotation = Thread(target=self._rotate_logs, name="log rotation", daemon=True)

    def __enter__(self) -> Self:
        self._lifeline, self._write_end = os.pipe()
        self._log_rotation.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        with self._starting:  # Wait for a start that is in progress. No other start begins after it.
            deadline = time.monotonic() + self._stop_seconds
        while self._children:
            # The unused part of a share goes to the remaining programs.
            share = (deadline - time.monotonic()) / len(self._children)
            self._children.pop().end(share)
        self._log_rotation.join()
        os.close(self._lifeline)
        os.close(self._write_end)

    def start(self, program: Program, is_ready: Callable[[int], bool] = lambda _: True) -> None:
        """Start a program, wait until it is ready, and restart it from then on when it ends.

        Do nothing when the supervisor is stopping.

        Args:
            program: The program.
            is_ready: Returns whether the program with this process id is ready.

        Raises:
            StartupError: The program cannot be started, or ends before it is ready.
        """
        child = _Child(program)
        with self._starting:
            if self._stopping.is_set():
                return
            try:
                child.spawn(self._lifeline)
            except OSError as error:
                raise StartupError(f"{program.name} cannot be started: {error}") from error
            self._children.append(child)
        while not (self._stopping.is_set() or is_ready(child.process.pid)):
            if child.ends_within(_READY_POLL_SECONDS):
                raise StartupError(f"{program.name} does not start: {child.wait()} (its log is {program.log})")
        self._report(program.name, child.description)
        child.restart_thread = Thread(target=self._restart_repeatedly, args=(child,), name=program.name)
        child.restart_thread.start()

    def _rotate_logs(self) -> None:
        while not self._stopping.wait(LOG_CHECK_SECONDS):
            with self._starting:  # A start rotates a log, too.
                for child in self._children:
                    rotate_log(child.program.log)

    def _restart_repeatedly(self, child: "_Child") -> None:
        delay = self._backoff.initial
        ending = child.wait()
        while not self._stopping.is_set():
            if time.monotonic() - child.started >= self._backoff.reset_after:
                delay = self._backoff.initial
            self._report(child.program.name, f"{ending}; starting it again in {delay:g} s")
            self._stopping.wait(delay)
            delay = min(2 * delay, self._backoff.maximum)
            ending = self._run_again(child)

    def _run_again(self, child: "_Child") -> str:
        with self._starting:
            if self._stopping.is_set():
                return ""
            try:
                child.spawn(self._lifeline)
            except OSError as error:
                return f"cannot be started: {full_disk(child.program.log.parent) or error}"
        self._report(child.program.name, child.description)
        return child.wait()


class _Child:
    """A program and its current process."""

    process: Popen[bytes]
    started: float
    restart_thread: Thread | None = None

    def __init__(self, program: Program) -> None:
        self.program = program
        self._log_start = 0

    @property
    def description(self) -> str:
        return f"pid {self.process.pid}  {self.program.address}".rstrip()

    def spawn(self, lifeline: int) -> None:
        """Start the process.

        Raises:
            OSError: The program cannot be executed, or its log cannot be opened.
        """
        self.started = time.monotonic()
        log = self.program.log
        log.parent.mkdir(parents=True, exist_ok=True)
        rotate_log(log)
        with log.open("ab") as output:
            self._log_start = output.tell()
            self.process = Popen(  # noqa: S603 - only TickView defines programs
                self.program.argv,
                stdin=lifeline,
                stdout=output,
                stderr=STDOUT,
                env={**os.environ, **self.program.environment, SUPERVISED: "1"},
                start_new_session=True,
                **user_arguments(self.program.user),
            )

    def wait(self) -> str:
        """Wait for the end of the process, kill the rest of its process group, and return how the process ended."""
        code = self.process.wait()
        self._kill_group()
        ending = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        line = self._last_line()
        reasons = [reason for reason in (line, full_disk(self.program.log.parent)) if reason]
        return ": ".join([ending, *reasons])

    def ends_within(self, seconds: float) -> bool:
        with suppress(TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def end(self, seconds: float) -> None:
        """Send the stop signal, kill the process group if the process does not end within ``seconds``, and wait."""
        if self.process.poll() is None:
            self.process.send_signal(self.program.stop_signal)
            if not self.ends_within(seconds):
                self._kill_group()
            if self.restart_thread is None:
                self.wait()
        if self.restart_thread:
            self.restart_thread.join()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS raises PermissionError for a group of zombies
            os.killpg(self.process.pid, signal.SIGKILL)

    def _last_line(self) -> str:
        """Return the last line with words that this run has written to the log, without the frame around the words."""
        try:
            with self.program.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - _LAST_LINE_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return next(filter(None, (line.strip(_FRAME) for line in reversed(lines))), "")
