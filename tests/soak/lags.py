"""Lags of the archive and of the histories, as PostgreSQL knows them."""

import psycopg


def past_lag(dsn: str) -> float:
    """Return the seconds by which the history of the patterns is behind the archive, on the log that is most behind."""
    with psycopg.connect(dsn) as connection:
        [[seconds]] = connection.execute(
            "SELECT max(extract(epoch FROM archived.recorded_at - folded.recorded_at)) "
            "FROM tickview.segments AS archived JOIN tickview.segments AS folded USING (log) "
            "WHERE archived.name = 'archive' AND folded.name = 'pattern_history'"
        )
    return float(seconds or 0)


def positions_of(dsn: str) -> dict[str, int]:
    """Return how many events of the market log the archive has, and how many the history of the patterns has folded."""
    with psycopg.connect(dsn) as connection:
        return {
            name: int(position)
            for name, position in connection.execute(
                "SELECT name, sum(position) FROM tickview.segments "
                "WHERE log LIKE 'market-%' AND name IN ('archive', 'pattern_history') GROUP BY name"
            )
        }
