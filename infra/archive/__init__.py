"""The archive in PostgreSQL: the events of every log, chained by hash, and the read model ``pattern_history``."""
