"""The same read model by the ``eventsourcing`` library's own ProjectionRunner, its view in SQLite or PostgreSQL.

It reads the same log and folds with the same ``keys`` and ``evolve``; each event is one transaction, with its tracking.
The view has the rows and an SQL index for every index of the read model; its counts are left to SQL.
"""

import time
from threading import Event as Signal
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
from projections.base import decode_row, encode_row
from projections.patterns import ActivePatterns, PatternRow

PATTERNS = ActivePatterns()

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
UPSERT = "INSERT INTO patterns ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}".format(  # noqa: S608 names of ours
    ", ".join(COLUMNS), ", ".join("?" * len(COLUMNS)), ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
)


def _values(row: PatternRow, position: int) -> tuple[Any, ...]:
    return (row.id, encode_row(row, position).decode(), *(getattr(row, name) for name in (*SCORES, *GROUPS)))


class _Market(Application[str]):
    """The market's log as an application of the library."""

    name = "market-0"

    def construct_mapper(self) -> Mapper[str]:
        """A mapper to our events."""
        return _MarketMapper(self.construct_transcoder())


class _MarketMapper(Mapper[str]):
    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        return decode(stored_event.topic, "", stored_event.state)


class _Folding(Projection[Any]):
    """Folds the load of the benchmark, in which every event names the one row that it speaks of."""

    name = "patternview"
    last: ClassVar[int]
    done: ClassVar[Signal]

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Fold it."""
        [key] = PATTERNS.keys(domain_event)
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
            _change(lambda sql, values: cursor.execute(sql, values), cursor, key, event, tracking)


class _PostgresView(PostgresTrackingRecorder):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.sql_create_statements += [SQL(statement).format() for statement in CREATE]

    def change(self, key: str, event: Any, tracking: Tracking) -> None:
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            _change(
                lambda sql, values: cursor.execute(sql.replace("?", "%s"), values, prepare=True),
                cursor,
                key,
                event,
                tracking,
            )


def _change(execute: Any, cursor: Any, key: str, event: Any, tracking: Tracking) -> None:
    execute(SELECT, (key,))
    found = cursor.fetchone()
    row = decode_row(PatternRow, found["document"].encode()).row if found else None
    evolved = PATTERNS.evolve(row, event)
    if evolved is None:
        execute(DELETE, (key,))
    elif evolved is not row:
        execute(UPSERT, _values(evolved, tracking.notification_id))


def events_per_second(redis_url: str, events: int, view: type[Any], settings: dict[str, str]) -> float:
    """How fast the runner folds the first ``events`` of the log. ``settings`` are those of the view's database.

    Raises what the runner raises.
    """
    environment = {
        "MARKET-0_PERSISTENCE_MODULE": "infra.eventlog",
        "MARKET-0_ORIGINATOR_ID_TYPE": "text",
        "MARKET-0_TICKVIEW_REDIS_URL": redis_url,
        **{f"PATTERNVIEW_{name}": value for name, value in settings.items()},
    }
    _Folding.last, _Folding.done = events, Signal()
    started = time.perf_counter()
    with ProjectionRunner(
        application_class=_Market, projection_class=_Folding, view_class=view, env=environment
    ) as runner:
        while not _Folding.done.wait(0.5):
            if runner.is_interrupted.is_set():
                runner.run_forever(0)
                raise RuntimeError("the runner stopped early")
        return events / (time.perf_counter() - started)


def with_sqlite(redis_url: str, events: int, file: str) -> float:
    """Events per second with the view in a new SQLite ``file``."""
    settings = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": file}
    return events_per_second(redis_url, events, _SQLiteView, settings)


def with_postgres(redis_url: str, events: int, dsn: str) -> float:
    """Events per second with the view in an empty PostgreSQL database."""
    parts = conninfo_to_dict(dsn)
    settings = {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(parts["dbname"]),
        "POSTGRES_HOST": str(parts["host"]),
        "POSTGRES_USER": str(parts["user"]),
        "POSTGRES_PASSWORD": str(parts.get("password") or "none"),
    }
    return events_per_second(redis_url, events, _PostgresView, settings)
