"""What a log asks of the archive that keeps its history: the port, and what goes wrong behind it."""

from typing import TYPE_CHECKING, Protocol

from eventsourcing.persistence import OperationalError

from domain.log import LogEntry

if TYPE_CHECKING:
    from infra.eventlog.log import EventLog


class ArchiveUnavailableError(OperationalError):
    """The archive cannot be reached now; the message says why. Trying again may help."""


class ArchiveBusyError(ArchiveUnavailableError):
    """The archive is there, and keeps us waiting for too long; the message says why, and what to do."""


class HistoryGapError(OperationalError):
    """Events are neither in the log nor in the archive; the message says which."""


class LogNotOpenError(OperationalError):
    """A log cannot be opened, so that nothing is appended; the message says why, and what to do."""


class LogDivergedError(OperationalError):
    """A log and its archive tell different histories; the message says from where on. A person must decide."""


class Archive(Protocol):
    """Where events are kept that the log no longer has. Every method raises ArchiveUnavailableError."""

    def read(self, log: str, after: int, upto: int, limit: int) -> list[LogEntry]:
        """The archived events with positions > ``after`` and <= ``upto``, in order, ``limit`` at most."""
        ...

    def read_stream(
        self, log: str, stream: str, lowest: int, highest: int, *, desc: bool, limit: int
    ) -> list[LogEntry]:
        """The archived events of a stream with versions from ``lowest`` to ``highest``, by version."""
        ...

    def open(self, log: "EventLog") -> None:
        """Put back what ``log`` has lost, if it has, and open it.

        Raises LogDivergedError where it holds other events than the archive.
        """
        ...

    def close(self) -> None:
        """Close what is open."""
        ...
