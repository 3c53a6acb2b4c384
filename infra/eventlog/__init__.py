"""The event log on Redis or Valkey, and the ``eventsourcing`` library's persistence module on top of it."""

from infra.eventlog.archive import (
    Archive,
    ArchiveBusyError,
    ArchiveUnavailableError,
    HistoryGapError,
    LogDivergedError,
    LogNotOpenError,
)
from infra.eventlog.durability import NotDurableError, UnsuitableServerError, check_durability
from infra.eventlog.factory import RedisFactory
from infra.eventlog.log import (
    Appended,
    EventLog,
    NewEvent,
    TrackingConflictError,
    VersionConflictError,
)
from infra.eventlog.recorders import (
    RedisAggregateRecorder,
    RedisApplicationRecorder,
    RedisProcessRecorder,
    RedisTrackingRecorder,
)

__all__ = [
    "Appended",
    "Archive",
    "ArchiveBusyError",
    "ArchiveUnavailableError",
    "EventLog",
    "HistoryGapError",
    "LogDivergedError",
    "LogNotOpenError",
    "NewEvent",
    "NotDurableError",
    "RedisAggregateRecorder",
    "RedisApplicationRecorder",
    "RedisFactory",
    "RedisProcessRecorder",
    "RedisTrackingRecorder",
    "TrackingConflictError",
    "UnsuitableServerError",
    "VersionConflictError",
    "check_durability",
]
