"""The port through which a log reads its archive."""

from typing import Protocol

from domain.log import LogEntry
from infra.log.handle import LogHandle


class Archive(Protocol):
    """The store of the events that were trimmed from a log. Every method raises ArchiveUnavailableError."""

    def read(self, log: str, after: int, upto: int, limit: int) -> list[LogEntry]:
        """Return the archived events with positions > ``after`` and <= ``upto``, in order, at most ``limit``."""
        ...

    def read_stream(
        self, log: str, stream: str, lowest: int, highest: int, *, desc: bool, limit: int
    ) -> list[LogEntry]:
        """Return the archived events of a stream with versions from ``lowest`` to ``highest``, ordered by version."""
        ...

    def open(self, log: LogHandle) -> None:
        """Put back the events that ``log`` has lost, and open it for appending.

        Raises LogDivergedError where the log holds other events than the archive.
        """
        ...

    def close(self) -> None:
        """Close the connections of the archive."""
        ...
