"""The reaper of a benchmark: it ends the servers of the benchmark when the benchmark was killed.

Its standard input is a pipe that only the benchmark holds open. When the benchmark ends, in whatever way, the reaper
ends the servers that use the folder of the benchmark, and removes the folder.
"""

import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil

SERVERS = {"valkey-server", "postgres", "initdb"}
"""Names of the processes that run the servers of a benchmark, and create their data."""

END_SECONDS = 5.0
"""Seconds within which a server of PostgreSQL ends after its signal, before it is killed."""


def main() -> None:
    """Wait for the end of the benchmark, then clean up."""
    folder = Path(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the reaper, too.
    sys.stdin.read()
    # A program can have started another one between the search and its end.
    while processes := [process for process in psutil.process_iter() if _is_server_of(process, folder)]:
        _end(processes)
    shutil.rmtree(folder, ignore_errors=True)


def _is_server_of(process: psutil.Process, folder: Path) -> bool:
    """Return whether the process is a server that uses the folder, or a program that creates its data."""
    with suppress(psutil.Error):
        if process.name() in SERVERS:
            return folder in Path(process.cwd()).parents or any(str(folder) in word for word in process.cmdline())
    return False


def _end(processes: list[psutil.Process]) -> None:
    """End the processes at once. A server of PostgreSQL gets the chance to give back its shared memory."""
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(signal.SIGQUIT if process.name() == "postgres" else signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, END_SECONDS)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    main()
