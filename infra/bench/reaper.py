"""The reaper of a benchmark: it ends the servers of the benchmark when the benchmark was killed.

Its standard input is a pipe that only the benchmark holds open. When the benchmark ends, in whatever way, the reaper
ends the servers whose process ids are in the folder of the benchmark, and removes the folder.
"""

import os
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

PID_FILES = {"valkey/valkey.pid": signal.SIGKILL, "postgres/postmaster.pid": signal.SIGQUIT}
"""File with the process id of a server -> signal that ends the server and all its processes at once."""


def main() -> None:
    """Wait for the end of the benchmark, then clean up."""
    folder = Path(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the reaper, too.
    sys.stdin.read()
    for name, number in PID_FILES.items():
        with suppress(OSError, ValueError, IndexError):
            os.kill(int((folder / name).read_text().split()[0]), number)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
