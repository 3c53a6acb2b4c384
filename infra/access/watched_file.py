"""Watched file: a file that is read again after a change, so that new keys and revocations need no restart."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from infra.processes.errors import StartupError
from infra.processes.outage import OutageLog

CHECK_SECONDS = 1.0
"""Shortest time between two checks of the file, in seconds."""

Content = TypeVar("Content")

logger = structlog.get_logger()


class WatchedFile(Generic[Content]):
    """The parsed content of a file. If a later version cannot be read or parsed, the last good content stays.

    Args:
        setting: The environment variable that names the file.
        path: The file.
        parse: Parses the content. It raises ValueError with a sentence that says what is wrong.

    Raises:
        StartupError: The file cannot be read or parsed at the beginning.
    """

    def __init__(self, setting: str, path: Path, parse: Callable[[bytes], Content]) -> None:
        self._setting = setting
        self._path = path
        self._parse = parse
        try:
            self._state = self._read_state()
            self._content = parse(path.read_bytes())
        except OSError as error:
            raise StartupError(
                f"{setting}={path}: The file cannot be read: {error.strerror}. Create it, or correct {setting}."
            ) from error
        except ValueError as error:
            raise StartupError(f"{setting}={path}: {error}") from error
        self._checked_at = time.monotonic()
        self._outage = OutageLog("file unreadable", "file readable again", setting=setting, path=str(path))

    @property
    def content(self) -> Content:
        """The content, at most about a second old. An unchanged file returns the same object."""
        if time.monotonic() - self._checked_at > CHECK_SECONDS:
            self._checked_at = time.monotonic()
            self._refresh()
        return self._content

    def _refresh(self) -> None:
        try:
            state = self._read_state()
            if state != self._state:
                self._content = self._parse(self._path.read_bytes())
                # Set after the parsing: a file that could not be parsed may be repaired within the same time stamp.
                self._state = state
                logger.info("file read again", setting=self._setting, path=str(self._path))
            self._outage.recovered()
        except (OSError, ValueError) as error:
            self._outage.failed(error)

    def _read_state(self) -> tuple[int, int, int]:
        """Return values that differ after the file was written or replaced."""
        state = self._path.stat()
        return state.st_mtime_ns, state.st_size, state.st_ino
