"""The channels on which producers publish, and the event types of each channel."""

PATTERNS = "tickstock.events.patterns"
BACKTEST_PROGRESS = "tickstock.events.backtesting.progress"
BACKTEST_RESULTS = "tickstock.events.backtesting.results"
HEALTH = "tickstock.health.status"

CHANNELS = (PATTERNS, BACKTEST_PROGRESS, BACKTEST_RESULTS, HEALTH)
"""All pub/sub channels. The producer fixes their names."""

INGEST_STREAM = "tickstock.ingest"
"""The Redis stream that takes the same messages. Its entries have the fields ``channel`` and ``payload``."""

CHANNEL_OF = {
    "pattern_detected": PATTERNS,
    "pattern_updated": PATTERNS,
    "pattern_expired": PATTERNS,
    "patterns_batch": PATTERNS,
    "backtest_progress": BACKTEST_PROGRESS,
    "backtest_result": BACKTEST_RESULTS,
    "system_health": HEALTH,
}
"""The channel of each event type of the wire format."""

DEFAULT_TYPE = {
    BACKTEST_PROGRESS: "backtest_progress",
    BACKTEST_RESULTS: "backtest_result",
    HEALTH: "system_health",
}
"""The event type of a message without a type, for each channel that carries only one type."""
