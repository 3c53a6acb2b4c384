"""Servers that outlived the supervisor that started them, because it was killed."""

from pathlib import Path
from signal import Signals

_STOP_SECONDS = 30.0


def stop_orphan(folder: Path, pid_file: Path, name: str, stop_signal: Signals) -> None:
    """Stop the server called ``name`` that still works in ``folder``, if there is one.

    A process id is given again after a crash or a restart of the machine; so what the file names counts only if it is
    such a server, with this very folder as its working directory. A file that names something else is removed.
    """
    import psutil

    try:
        process = psutil.Process(int(pid_file.read_text().split()[0]))
        is_ours = process.name() == name and Path(process.cwd()) == folder
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return
    except psutil.AccessDenied:
        is_ours = False
    if not is_ours:
        pid_file.unlink()
        return
    process.send_signal(stop_signal)
    try:
        process.wait(_STOP_SECONDS)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait()
