"""The archive in PostgreSQL: the events of every log, chained by hash, and the histories of read models."""
