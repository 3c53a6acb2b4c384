"""The tolerant wire reader: every shape in which producers announce, read into events or refused by name.

Pure: no clock, no I/O. The shapes and the rules are described in ``docs/wire.md``.
"""

from domain.wire.channels import (
    BACKTEST_PROGRESS,
    BACKTEST_RESULTS,
    CHANNELS,
    HEALTH,
    INGEST_STREAM,
    PATTERNS,
)
from domain.wire.reader import MAX_BYTES, ReadResult, channel_for, read
from domain.wire.refusal import Code, Refusal

__all__ = [
    "BACKTEST_PROGRESS",
    "BACKTEST_RESULTS",
    "CHANNELS",
    "HEALTH",
    "INGEST_STREAM",
    "MAX_BYTES",
    "PATTERNS",
    "Code",
    "ReadResult",
    "Refusal",
    "channel_for",
    "read",
]
