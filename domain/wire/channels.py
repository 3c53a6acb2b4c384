"""Where producers announce, and which event types each channel carries."""

PATTERNS = "tickstock.events.patterns"
BACKTEST_PROGRESS = "tickstock.events.backtesting.progress"
BACKTEST_RESULTS = "tickstock.events.backtesting.results"
HEALTH = "tickstock.health.status"

CHANNELS = (PATTERNS, BACKTEST_PROGRESS, BACKTEST_RESULTS, HEALTH)
"""The pub/sub channels, fixed by the producer."""

INGEST_STREAM = "tickstock.ingest"
"""The Redis stream that takes the same messages, with the fields ``channel`` and ``payload``."""

CHANNEL_OF = {
    "pattern_detected": PATTERNS,
    "pattern_updated": PATTERNS,
    "pattern_expired": PATTERNS,
    "patterns_batch": PATTERNS,
    "backtest_progress": BACKTEST_PROGRESS,
    "backtest_result": BACKTEST_RESULTS,
    "system_health": HEALTH,
}
"""The channel of each event type."""

ONLY_TYPE = {
    BACKTEST_PROGRESS: "backtest_progress",
    BACKTEST_RESULTS: "backtest_result",
    HEALTH: "system_health",
}
"""The event type of a message that names none, on a channel that carries only one."""
