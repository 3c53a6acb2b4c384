"""The archive in PostgreSQL: the whole history of every log, chained by hash; and what is told from it."""
