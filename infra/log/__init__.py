"""The event log on Redis: append, read, trim and restore one gapless sequence of events."""
