"""The persistence module for applications of the ``eventsourcing`` library: ``PERSISTENCE_MODULE=infra.eventlog``."""

from infra.eventlog.factory import RedisFactory
from infra.eventlog.recorders import (
    RedisAggregateRecorder,
    RedisApplicationRecorder,
    RedisProcessRecorder,
    RedisTrackingRecorder,
)

__all__ = [
    "RedisAggregateRecorder",
    "RedisApplicationRecorder",
    "RedisFactory",
    "RedisProcessRecorder",
    "RedisTrackingRecorder",
]
