"""Start ``tickview`` by a fork from a process that has imported it already.

To import TickView takes half a second of processor time. The tests start it some four hundred times, so that this alone
was a third of their time. Each role is still a process of its own, with its own environment, files and process group.
``test_up.py`` and ``test_install.py`` start it with exec, as users do.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import current_process, get_context
from multiprocessing.reduction import DupFd
from typing import IO, Any

PRELOADED = [
    *(f"infra.cli.{name}" for name in ("roles", "archive", "audit", "catalogue", "dead_letters", "history", "publish")),
    *(f"infra.cli.{name}" for name in ("replay", "status", "token", "workspaces")),
    *("falcon.asgi", "gunicorn.arbiter", "httptools", "numpy", "uvicorn", "uvloop", "websockets.server"),
]
"""Not ``prometheus_client``: when it is imported, it reads from the environment where its files are."""

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(PRELOADED)


class ForkedProcess:
    """A process that runs ``tickview``, with the methods of ``subprocess.Popen`` that the tests use."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        files: Mapping[int, IO[Any]],
        *,
        own_group: bool,
    ) -> None:
        """Start ``tickview`` with ``arguments``. ``files`` replace the file descriptors of these numbers."""
        descriptors = {number: DupFd(file.fileno()) for number, file in files.items()}
        self._process = _CONTEXT.Process(
            target=_run, args=(list(arguments), dict(environment), descriptors, own_group), daemon=True
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
        """Return the exit code when the process has ended. Raises TimeoutError after ``timeout`` seconds."""
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


def _run(arguments: list[str], environment: dict[str, str], descriptors: dict[int, Any], own_group: bool) -> None:
    from infra.cli import main

    # A daemonic process may not start processes, and the archiver verifies in one.
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
