"""With what: Redis, PostgreSQL, processes, settings, the command line; the only place that composes the rest."""
