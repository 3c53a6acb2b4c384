"""Errors of the event log and of the archive behind it.

Each is also an error of the ``eventsourcing`` library, so that its applications handle them as those of any database.
"""

from eventsourcing.persistence import IntegrityError, OperationalError

from domain.errors import TickViewError


class VersionConflictError(TickViewError, IntegrityError):
    """The event cannot get the stream version that it expects."""


class TrackingConflictError(TickViewError, IntegrityError):
    """The tracking position is not higher than the last one."""


class UnsuitableServerError(TickViewError, OperationalError):
    """The server is too old, or cannot keep the promise of the durability setting."""


class NotDurableError(TickViewError, OperationalError):
    """The events are in the log, but not yet as durable as the setting demands. Appending them again is safe."""


class ArchiveUnavailableError(TickViewError, OperationalError):
    """The archive cannot be reached now. Trying again may help."""


class ArchiveBusyError(ArchiveUnavailableError):
    """The archive is reachable, but does not answer in time."""


class HistoryGapError(TickViewError, OperationalError):
    """Events are neither in the log nor in the archive."""


class LogNotOpenError(TickViewError, OperationalError):
    """The log cannot be opened. Nothing can be appended until it is."""


class LogDivergedError(TickViewError, OperationalError):
    """The log and its archive hold different events. A person must decide which of them is right."""
