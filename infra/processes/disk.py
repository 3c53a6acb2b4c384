"""Log files of bounded size, and the check whether a disk is full."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

LOG_BYTES = 8 * 1024 * 1024
"""Bytes of a log file above which its content is moved to a second file. Only the latest second file stays."""

FULL_BYTES = 16 * 1024 * 1024
"""Free bytes of a disk below which it counts as full."""


def rotate_log(log: Path) -> None:
    """Move the content of a log file to ``<name>.1`` if the file is too large. A process may go on writing to it.

    The process must append. The lines that it writes between the copy and the truncation are lost.
    """
    with suppress(OSError):  # A disk that is full has no room for the copy. The log is rotated later.
        if log.stat().st_size > LOG_BYTES:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def full_disk(folder: Path) -> str | None:
    """Return a sentence about the disk of a folder if it is full, else None."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return None
    if free >= FULL_BYTES:
        return None
    return f"the disk of {folder} is full ({free / 1024 / 1024:.0f} MB are free): free some space"
