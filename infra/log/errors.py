"""Errors of the event log and of the archive behind it.

Each is also an error of the ``eventsourcing`` library, so that an application of the library handles it like the error
of any other database.
"""

from eventsourcing.persistence import IntegrityError, OperationalError

from domain.errors import TickViewError
from domain.partitions import Partitions


class VersionConflictError(TickViewError, IntegrityError):
    """The expected version of an event is not the next version of its stream."""


class TrackingConflictError(TickViewError, IntegrityError):
    """The tracking position is not higher than the stored tracking position."""


class UnsuitableServerError(TickViewError, OperationalError):
    """The server is too old, or its configuration cannot provide the durability that the settings demand."""


class StreamElsewhereError(TickViewError, OperationalError):
    """The number of partitions was raised, and the caller does not know it: the stream may be in another partition.

    Args:
        log: The partition that refused.
        sealed: The number of partitions with which it is sealed. None if it is not sealed.
    """

    def __init__(self, log: str, sealed: Partitions | None) -> None:
        super().__init__(
            f"A stream may be in another partition than {log}, because the number of partitions was raised "
            f"(sealed with {sealed}). Find the log of the stream again, then append again."
        )
        self.sealed = sealed


class NotDurableError(TickViewError, OperationalError):
    """The events are in the log, but not yet as durable as the settings demand. Appending them again is safe."""


class ArchiveUnavailableError(TickViewError, OperationalError):
    """The archive cannot be reached now. A later attempt may succeed."""


class ArchiveBusyError(ArchiveUnavailableError):
    """The archive can be reached, but does not answer in time."""


class ArchiveReadOnlyError(ArchiveUnavailableError):
    """The archive can be reached, but only read: its server is a standby."""


class HistoryGapError(TickViewError, OperationalError):
    """Events are missing from both the log and the archive."""


class LogNotOpenError(TickViewError, OperationalError):
    """The log cannot be opened. A log that is not open refuses every append."""


class LogDivergedError(TickViewError, OperationalError):
    """The log and its archive hold different events. An operator must decide which of them is right."""
