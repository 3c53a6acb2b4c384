"""Test processes that start by a fork of a server process, which has already imported TickView.

The import of TickView takes half a second of processor time, and the tests start about four hundred processes. Each
process has its own environment, files and process group. ``test_up.py`` and ``test_install.py`` start ``tickview`` with
exec, as users do.
"""

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import current_process, get_context
from multiprocessing.reduction import DupFd
from typing import IO, Any

PRELOADED = [
    *(
        f"infra.cli.{name}"
        for name in ("alert", "archive", "audit", "catalogue", "dead_letters", "history", "partitions", "project")
    ),
    *(f"infra.cli.{name}" for name in ("publish", "query", "record", "replay", "serve", "status", "token", "users")),
    *("infra.cli.workspaces", "infra.serving.auditor", "infra.serving.dead_letters", "infra.serving.session_relay"),
    *(f"readapi.{name}" for name in ("access.guard", "audit.resources", "backtests.resources", "catalogue.symbols")),
    *(f"readapi.{name}" for name in ("catalogue.universes", "compatibility.tickstock.middleware", "console.resources")),
    *(f"readapi.operations.{name}" for name in ("dashboard", "dead_letters", "events", "health", "projections")),
    *(f"readapi.{name}" for name in ("patterns.overview", "patterns.pattern", "patterns.scan", "users.watchlists")),
    *(f"readapi.{name}" for name in ("push.subscription_parameters", "read_models.resources", "users.filter_presets")),
    *(f"infra.serving.{name}" for name in ("archive", "operations", "row_history", "server")),
    *(f"readapi.{name}" for name in ("audit.auditing", "push.change_feed", "push.connections", "push.replay_buffer")),
    *(f"readapi.{name}" for name in ("socket_io.events", "socket_io.subscription_messages", "users.alerts")),
    *("falcon.asgi", "gunicorn.arbiter", "httptools", "msgpack", "numpy", "socketio", "uvicorn", "uvloop"),
    *("websockets.server", "wsgiref.simple_server"),
]
"""Modules that the server process imports. ``prometheus_client`` is not among them: its import reads the folder of its
files from the environment of the process."""

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(PRELOADED)


class ForkedProcess:
    """A forked process that runs a function, with the methods of ``subprocess.Popen`` that the tests use."""

    def __init__(
        self,
        main: Callable[[], object],
        arguments: Sequence[str],
        environment: Mapping[str, str],
        files: Mapping[int, IO[Any]],
        *,
        own_group: bool = False,
    ) -> None:
        """Start the process.

        Args:
            main: The entry point, a function of a module. It reads ``arguments`` from ``sys.argv``.
            arguments: The command line without the name of the program.
            environment: All environment variables of the process.
            files: File descriptor in the process -> the file that replaces it.
            own_group: Whether the process leads a new session and process group.
        """
        descriptors = {number: DupFd(file.fileno()) for number, file in files.items()}
        self._process = _CONTEXT.Process(
            target=_run, args=(main, list(arguments), dict(environment), descriptors, own_group), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the process and return its exit code.

        Raises:
            TimeoutError: The process still runs after ``timeout`` seconds.
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run(
    main: Callable[[], object],
    arguments: list[str],
    environment: dict[str, str],
    descriptors: dict[int, Any],
    own_group: bool,
) -> None:
    # A daemonic process may not start processes, but the archiver starts one for the verification.
    current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    if own_group:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for number, duplicate in descriptors.items():
        descriptor = duplicate.detach()
        os.dup2(descriptor, number)
        os.close(descriptor)
    if 0 in descriptors:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 open until the process ends
    sys.argv = ["tickview", *arguments]
    main()
