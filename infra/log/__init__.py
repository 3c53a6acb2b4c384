"""The event log on Redis: append, read, keep and restore one gapless sequence of events."""
