"""A file that is read again when it has changed, so that nothing must be restarted for a key or a revocation."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from infra.processes.errors import StartupError
from infra.processes.outage import OutageLog

LOOK_SECONDS = 1.0
"""Between two looks at the file, at least."""

Content = TypeVar("Content")

logger = structlog.get_logger()


class Watched(Generic[Content]):
    """What ``parse`` makes of the file; it raises ValueError, saying what is wrong, for what it cannot read.

    Raises StartupError if the file cannot be read at first. If it cannot be read later, what was known stays known.
    """

    def __init__(self, setting: str, path: Path, parse: Callable[[bytes], Content]) -> None:
        self._setting = setting
        self._path = path
        self._parse = parse
        try:
            self._seen = self._look()
            self._content = parse(path.read_bytes())
        except OSError as error:
            raise StartupError(f"{setting}: {path}: {error.strerror}") from error
        except ValueError as error:
            raise StartupError(f"{setting}: {path}: {error}") from error
        self._looked_at = time.monotonic()
        self._outage = OutageLog("file cannot be read", "file is as it should be", setting=setting, path=str(path))

    @property
    def content(self) -> Content:
        """As of a second ago, or newer. The same object as long as the file is the same."""
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._looked_at = time.monotonic()
            self._refresh()
        return self._content

    def _refresh(self) -> None:
        try:
            seen = self._look()
            if seen != self._seen:
                self._content = self._parse(self._path.read_bytes())
                # Only now: what could not be read may be readable in a second, and look the same.
                self._seen = seen
                logger.info("file read again", setting=self._setting, path=str(self._path))
            self._outage.recovered()
        except (OSError, ValueError) as error:
            self._outage.failed(error)

    def _look(self) -> tuple[int, int, int]:
        """What differs when the file was written or replaced."""
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino
