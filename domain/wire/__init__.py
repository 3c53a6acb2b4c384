"""The reader of producers' messages: it accepts every known shape and returns events and refusals.

The reader has no clock and performs no I/O. ``docs/wire.md`` describes the shapes and the rules.
"""

from domain.wire.channels import (
    BACKTEST_PROGRESS,
    BACKTEST_RESULTS,
    CHANNELS,
    HEALTH,
    INGEST_STREAM,
    KINDS,
    PATTERNS,
    Batch,
    Channel,
    ChannelError,
    FurtherChannel,
    add_further_channel,
    is_pattern,
    subscription_of,
)
from domain.wire.conventions import DEFAULT_CONVENTIONS, TIERS, Conventions
from domain.wire.message import MessageLevels
from domain.wire.reader import MAX_BYTES, Bounds, ReadResult, channel_for, read
from domain.wire.refusal import Code, Refusal, RefusedError, preview, shorten

__all__ = [
    "BACKTEST_PROGRESS",
    "BACKTEST_RESULTS",
    "CHANNELS",
    "DEFAULT_CONVENTIONS",
    "HEALTH",
    "INGEST_STREAM",
    "KINDS",
    "MAX_BYTES",
    "PATTERNS",
    "TIERS",
    "Batch",
    "Bounds",
    "Channel",
    "ChannelError",
    "Code",
    "Conventions",
    "FurtherChannel",
    "MessageLevels",
    "ReadResult",
    "Refusal",
    "RefusedError",
    "add_further_channel",
    "channel_for",
    "is_pattern",
    "preview",
    "read",
    "shorten",
    "subscription_of",
]
