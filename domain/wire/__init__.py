"""The reader of producers' messages: it accepts every known shape and returns events and refusals.

The reader has no clock and performs no I/O. ``docs/wire.md`` describes the shapes and the rules.
"""

from domain.wire.channels import (
    BACKTEST_PROGRESS,
    BACKTEST_RESULTS,
    CHANNELS,
    HEALTH,
    INGEST_STREAM,
    PATTERNS,
    Batch,
    Channel,
)
from domain.wire.message import MessageLevels
from domain.wire.reader import MAX_BYTES, Bounds, ReadResult, channel_for, read
from domain.wire.refusal import Code, Refusal, RefusedError, preview, shorten

__all__ = [
    "BACKTEST_PROGRESS",
    "BACKTEST_RESULTS",
    "CHANNELS",
    "HEALTH",
    "INGEST_STREAM",
    "MAX_BYTES",
    "PATTERNS",
    "Batch",
    "Bounds",
    "Channel",
    "Code",
    "MessageLevels",
    "ReadResult",
    "Refusal",
    "RefusedError",
    "channel_for",
    "preview",
    "read",
    "shorten",
]
