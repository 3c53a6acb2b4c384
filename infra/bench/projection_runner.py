"""The ``patterns`` read model with the ProjectionRunner of the ``eventsourcing`` library, in SQLite or PostgreSQL.

The runner reads the same log and uses the same ``keys`` and ``evolve`` functions as TickView. It handles each event in
one transaction, together with its position. The view has a table of rows and an SQL index for each index of the read
model. It has no counts.
"""

import time
from threading import Event as ThreadEvent
from typing import Any, ClassVar

from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.persistence import Mapper, StoredEvent, Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from eventsourcing.sqlite import SQLiteTrackingRecorder
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL

from domain.codec import decode
from infra.bench.errors import BenchmarkError
from projections.base import decode_row, encode_row
from projections.patterns import ActivePatterns, PatternRow

PATTERN_PROJECTION = ActivePatterns()

SCORES = ("confidence", "detected_at", "relative_strength", "relative_volume", "rsi", "expires_at")
GROUPS = ("symbol", "pattern", "tier")
COLUMNS = ("id", "document", *SCORES, *GROUPS)

CREATE = [
    "CREATE TABLE IF NOT EXISTS patterns (id text PRIMARY KEY, document text, "
    + ", ".join([f"{name} double precision" for name in SCORES] + [f"{name} text" for name in GROUPS])
    + ")",
    *(f"CREATE INDEX IF NOT EXISTS by_{name} ON patterns ({name})" for name in SCORES),
    *(f"CREATE INDEX IF NOT EXISTS by_{name} ON patterns ({name}, confidence)" for name in GROUPS),
]
SELECT = "SELECT document FROM patterns WHERE id = ?"
DELETE = "DELETE FROM patterns WHERE id = ?"
UPSERT = "INSERT INTO patterns ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}".format(  # noqa: S608 only constants
    ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS)), ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
)


def _values(row: PatternRow, position: int) -> tuple[Any, ...]:
    return (row.id, encode_row(row, position).decode(), *(getattr(row, name) for name in (*SCORES, *GROUPS)))


class _MarketApplication(Application[str]):
    """The market log as an application of the library."""

    name = "market-0"

    def construct_mapper(self) -> Mapper[str]:
        """Return a mapper that decodes events of TickView."""
        return _MarketMapper(self.construct_transcoder())


class _MarketMapper(Mapper[str]):
    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        return decode(stored_event.topic, "", stored_event.state)


class _PatternProjection(Projection[Any]):
    """The projection of the benchmark. Each event of the benchmark concerns exactly one row."""

    name = "patternview"
    last: ClassVar[int]
    """Position of the last event of the benchmark."""
    done: ClassVar[ThreadEvent]
    """Set when the last event is folded."""

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Fold one event into the view."""
        [key] = PATTERN_PROJECTION.keys(domain_event)
        assert isinstance(key, str)
        self.view.change(key, domain_event, tracking)
        if tracking.notification_id >= self.last:
            self.done.set()


class _SQLiteView(SQLiteTrackingRecorder):
    def construct_create_table_statements(self) -> list[str]:
        return [*super().construct_create_table_statements(), *CREATE]

    def change(self, key: str, event: Any, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            _update_row(lambda sql, values: cursor.execute(sql, values), cursor, key, event, tracking)


class _PostgresView(PostgresTrackingRecorder):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.sql_create_statements += [SQL(statement).format() for statement in CREATE]

    def change(self, key: str, event: Any, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            _update_row(
                lambda sql, values: cursor.execute(sql.replace("?", "%s"), values, prepare=True),
                cursor,
                key,
                event,
                tracking,
            )


def _update_row(execute: Any, cursor: Any, key: str, event: Any, tracking: Tracking) -> None:
    execute(SELECT, (key,))
    record = cursor.fetchone()
    row = decode_row(PatternRow, record["document"].encode()).row if record else None
    evolved = PATTERN_PROJECTION.evolve(row, event)
    if evolved is None:
        execute(DELETE, (key,))
    elif evolved is not row:
        execute(UPSERT, _values(evolved, tracking.notification_id))


def events_per_second(redis_url: str, events: int, view: type[Any], settings: dict[str, str]) -> float:
    """Measure the events per second at which the runner folds the first events of the log.

    Args:
        redis_url: The URL of the server with the log.
        events: Number of events to fold.
        view: The class of the view.
        settings: Settings of the library for the database of the view.

    Raises:
        BenchmarkError: The runner stopped before the last event. An error of the runner itself is raised unchanged.
    """
    environment = {
        "MARKET-0_PERSISTENCE_MODULE": "infra.eventlog",
        "MARKET-0_ORIGINATOR_ID_TYPE": "text",
        "MARKET-0_TICKVIEW_REDIS_URL": redis_url,
        **{f"PATTERNVIEW_{name}": value for name, value in settings.items()},
    }
    _PatternProjection.last, _PatternProjection.done = events, ThreadEvent()
    started = time.perf_counter()
    with ProjectionRunner(
        application_class=_MarketApplication, projection_class=_PatternProjection, view_class=view, env=environment
    ) as runner:
        while not _PatternProjection.done.wait(0.5):
            if runner.is_interrupted.is_set():
                runner.run_forever(0)
                raise BenchmarkError("The ProjectionRunner stopped before the last event.")
        return events / (time.perf_counter() - started)


def with_sqlite(redis_url: str, events: int, file: str) -> float:
    """Measure events per second with the view in a new SQLite ``file``."""
    settings = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": file}
    return events_per_second(redis_url, events, _SQLiteView, settings)


def with_postgres(redis_url: str, events: int, dsn: str) -> float:
    """Measure events per second with the view in an empty PostgreSQL database."""
    parts = conninfo_to_dict(dsn)
    settings = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts["host"]),
        "POSTGRES_USER": str(parts["user"]),
        "POSTGRES_PASSWORD": str(parts.get("password") or "none"),
    }
    return events_per_second(redis_url, events, _PostgresView, settings)
