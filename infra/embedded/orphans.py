"""Orphaned servers: servers that still run because their supervisor was killed."""

from pathlib import Path
from signal import Signals

_STOP_SECONDS = 30.0
"""Seconds after which a server that does not stop is killed."""


def stop_orphan(folder: Path, pid_file: Path, name: str, stop_signal: Signals) -> None:
    """Stop an orphaned server of a folder, if there is one, and wait for its end.

    The system may have given the process id in the file to another process. The process is therefore stopped only if it
    has the name of the server and the folder as its working directory. Otherwise the file is removed.

    Args:
        folder: The folder of the server's data.
        pid_file: The file that contains the process id of the server.
        name: The name of the server's process.
        stop_signal: The signal that stops the server.
    """
    import psutil

    try:
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        is_server = process.name() == name and Path(process.cwd()) == folder
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return
    except psutil.AccessDenied:
        is_server = False
    if not is_server:
        pid_file.unlink()
        return
    process.send_signal(stop_signal)
    try:
        process.wait(_STOP_SECONDS)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
