"""Keeps child processes running: starts them, restarts what dies with back-off, stops all in reverse order.

Every child leads a session of its own, so that Ctrl-C in a terminal reaches the supervisor alone, and whatever a child
has forked ends with it. Its standard input is the lifeline of ``infra.processes.lifeline``.
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

from infra.processes.errors import StartupError
from infra.processes.lifeline import SUPERVISED

LOG_BYTES = 8 * 1024 * 1024
"""A larger log is set aside when its process starts; one such old log is kept."""

_LAST_LINE_BYTES = 400
_READY_POLL_SECONDS = 0.02

Report = Callable[[str, str], None]
"""Told a program's name and what happened to it; called from several threads."""


@dataclass(frozen=True)
class Program:
    """What to run."""

    name: str
    argv: Sequence[str]
    log: Path
    """File that its output is appended to."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that it gets on top of ours."""
    address: str = ""
    """Where it listens, for people to read."""
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = None
    """System user to run as; ours when None."""


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait before a restart: ``first``, doubling up to ``most``, anew after a run of ``reset_after``."""

    first: float = 0.2
    most: float = 10.0
    reset_after: float = 30.0


DEFAULT_BACKOFF = Backoff()


def user_arguments(user: str | None) -> dict[str, Any]:
    """Arguments of ``Popen`` that run a process as ``user`` and in none of our groups; none for None."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


class Supervisor:
    """A context manager; leaving it stops every program, the last started first, and waits for their end.

    Setting ``stopping`` ends restarts and waits for programs to become ready. ``stop_seconds`` bounds how long
    stopping takes whatever the programs do: one that has not ended in its share of that time is killed.
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

    def __enter__(self) -> Self:
        self._lifeline, self._supervisors_end = os.pipe()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        with self._starting:  # A start that is under way ends first, and no other begins.
            deadline = time.monotonic() + self._stop_seconds
        while self._children:
            # What one leaves of its share goes to the next.
            share = (deadline - time.monotonic()) / len(self._children)
            self._children.pop().end(share)
        os.close(self._lifeline)
        os.close(self._supervisors_end)

    def start(self, program: Program, is_ready: Callable[[int], bool] = lambda _: True) -> None:
        """Start ``program``, wait until ``is_ready`` holds of its process id, and keep it running from then on.

        Raises StartupError if it cannot be started or ends before it is ready. Does nothing when stopping.
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
        child.keeper = Thread(target=self._keep_running, args=(child,), name=program.name)
        child.keeper.start()

    def _keep_running(self, child: "_Child") -> None:
        delay = self._backoff.first
        ending = child.wait()
        while not self._stopping.is_set():
            if time.monotonic() - child.started >= self._backoff.reset_after:
                delay = self._backoff.first
            self._report(child.program.name, f"{ending}; starting it again in {delay:g} s")
            self._stopping.wait(delay)
            delay = min(2 * delay, self._backoff.most)
            ending = self._run_again(child)

    def _run_again(self, child: "_Child") -> str:
        with self._starting:
            if self._stopping.is_set():
                return ""
            try:
                child.spawn(self._lifeline)
            except OSError as error:
                return f"cannot be started: {error}"
        self._report(child.program.name, child.description)
        return child.wait()


class _Child:
    """A program and its current process."""

    process: Popen[bytes]
    started: float
    keeper: Thread | None = None

    def __init__(self, program: Program) -> None:
        self.program = program
        self._log_start = 0

    @property
    def description(self) -> str:
        return f"pid {self.process.pid}  {self.program.address}".rstrip()

    def spawn(self, lifeline: int) -> None:
        """Start the process. Raises OSError."""
        self.started = time.monotonic()
        log = self.program.log
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
        with log.open("ab") as output:
            self._log_start = output.tell()
            self.process = Popen(  # noqa: S603 - the programs are ours
                self.program.argv,
                stdin=lifeline,
                stdout=output,
                stderr=STDOUT,
                env={**os.environ, **self.program.environment, SUPERVISED: "1"},
                start_new_session=True,
                **user_arguments(self.program.user),
            )

    def wait(self) -> str:
        """Until the process has ended, and with it whatever it forked into its group; says how it ended."""
        code = self.process.wait()
        self._kill_group()
        how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        line = self._last_line()
        return f"{how}: {line}" if line else how

    def ends_within(self, seconds: float) -> bool:
        with suppress(TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def end(self, seconds: float) -> None:
        """Ask the process to stop, kill it if it has not done so in ``seconds``, and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(self.program.stop_signal)
            if not self.ends_within(seconds):
                self._kill_group()
            if self.keeper is None:
                self.wait()
        if self.keeper:
            self.keeper.join()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            os.killpg(self.process.pid, signal.SIGKILL)

    def _last_line(self) -> str:
        """The last line of this run, shortened."""
        try:
            with self.program.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - _LAST_LINE_BYTES))
                lines = log.read().decode(errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return lines[-1] if lines else ""
