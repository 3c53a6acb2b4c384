"""``tickview bench archive``: the rates of archiving, verification and export, each with its limit.

The limit of archiving is a COPY of the same bytes. The limit of verification is SHA-256 over the same bytes. The limit
of the export is the CSV export of PostgreSQL.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from psycopg import connect
from psycopg.sql import SQL, Identifier
from rich.progress import Progress

from infra.archive.archiver import (
    ARCHIVE,
    COPY_EVENTS,
    FORMAT_VERSION,
    Archiver,
)
from infra.archive.export import Format, export
from infra.archive.leases import acquire_lease
from infra.archive.months import create_month_partition, start_of_month
from infra.archive.row_format import (
    COPY_HEADER,
    COPY_TRAILER,
    GENESIS,
    canonical_bytes,
    encode_copy_row,
    received_rows,
    split_row,
)
from infra.archive.verification.snapshots import snapshot
from infra.archive.verification.verify import verify
from infra.bench.errors import BenchmarkError
from infra.bench.measurement import PROGRESS_CONSOLE, Throughput, with_shares
from infra.log.event_log import EventLog
from infra.postgres.database import Database

EXPORT_FORMATS: tuple[Format, ...] = ("jsonl", "csv", "parquet")

_COPY_ROWS = "COPY (SELECT * FROM tickview.events WHERE log = %s ORDER BY position) TO STDOUT (FORMAT binary)"


@contextmanager
def create_database(server_dsn: str, name: str) -> Iterator[Database]:
    """Create a database with the schema of TickView on a server, and open it."""
    with connect(server_dsn, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    database = Database(server_dsn.replace("/postgres?", f"/{name}?"))
    database.check()
    yield database
    database.close()


def measure(server_dsn: str, log: EventLog, batch_size: int, folder: Path) -> dict[str, list[Throughput]]:
    """Archive the log, verify the archive and export it.

    Returns:
        Name of the operation -> rates in events per second. The first rate of each list is the limit.
    """
    with create_database(server_dsn, "archive") as archive, create_database(server_dsn, "bare") as bare:
        rates = {"archive": with_shares(*_archive(archive, bare, log, batch_size))}
        with connect(archive.dsn, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE tickview.events")
        rates["verify"] = with_shares(*_verify(archive, log))
        rates["export"] = with_shares(*_export(archive, log, folder))
    return rates


def _archive(database: Database, bare: Database, log: EventLog, batch_size: int) -> tuple[Throughput, Throughput]:
    """Measure archiving and its limit. They alternate after each batch, so that both run under the same conditions."""
    with database.connection() as connection:
        lease = acquire_lease(connection, ARCHIVE, FORMAT_VERSION, log.name, "bench", 36_000)
    assert lease is not None
    archiver = Archiver(database, log, lease, batch_size)
    with bare.connection() as connection:
        create_month_partition(connection, start_of_month(datetime.now(UTC).timestamp()))
    events = log.head()
    archive_seconds = copy_seconds = 0.0
    # The garbage collector must not spend the time of archiving on objects that were created before.
    gc.collect()
    gc.freeze()
    with Progress(console=PROGRESS_CONSOLE, transient=True) as bar, connect(bare.dsn) as connection:
        task = bar.add_task("archiving", total=events)
        while lease.checkpoint < events:
            started = time.perf_counter()
            entries = archiver.step(0)
            archive_seconds += time.perf_counter() - started
            rows = [encode_copy_row(canonical_bytes(log.name, entry), GENESIS) for entry in entries]
            data = b"".join((COPY_HEADER, *rows, COPY_TRAILER))
            started = time.perf_counter()
            with connection.cursor().copy(COPY_EVENTS) as copy:
                copy.write(data)
            connection.commit()
            copy_seconds += time.perf_counter() - started
            bar.advance(task, len(entries))
    return (
        Throughput(f"bare COPY of the same bytes, {batch_size:,} events a commit", events / copy_seconds),
        Throughput("archive (read the log, encode, chain, COPY, checkpoint)", events / archive_seconds),
    )


def _verify(database: Database, log: EventLog) -> tuple[Throughput, ...]:
    with snapshot(database) as connection, connection.cursor().copy(_COPY_ROWS, [log.name]) as copy:
        contents = [split_row(row)[0] for row in received_rows(copy)]
    events = len(contents)
    joined = b"".join(contents)

    def hash_chain() -> None:
        hash_ = GENESIS
        for content in contents:
            hash_ = sha256(hash_ + content).digest()

    def read_rows() -> None:
        with snapshot(database) as connection, connection.cursor().copy(_COPY_ROWS, [log.name]) as copy:
            for _ in received_rows(copy):
                pass

    def verify_archive() -> None:
        if not verify(database).ok:
            raise BenchmarkError("The verification of the archive failed.")

    return (
        Throughput(
            f"bare SHA-256, event by event, {len(joined) // events} bytes each", events / _shortest_time(hash_chain)
        ),
        Throughput("bare SHA-256 of all bytes at once", events / _shortest_time(lambda: sha256(joined))),
        Throughput("reading the rows, nothing else", events / _shortest_time(read_rows)),
        Throughput("verify (read, hash, compare)", events / _shortest_time(verify_archive)),
    )


def _export(database: Database, log: EventLog, folder: Path) -> list[Throughput]:
    """Measure the export in each format. The limit is the CSV export of PostgreSQL."""
    file = folder / "events"
    events = log.head()

    def export_by_server() -> None:
        sql = "COPY (SELECT * FROM tickview.events ORDER BY log, position) TO STDOUT (FORMAT csv)"
        with snapshot(database) as connection, file.open("wb") as out, connection.cursor().copy(sql) as copy:
            while data := copy.read():
                out.write(data)

    def export_as(form: Format) -> Callable[[], None]:
        def run() -> None:
            with file.open("wb") as out:
                export(database, out, form)

        return run

    rates = [Throughput(f"export as {form}", events / _shortest_time(export_as(form))) for form in EXPORT_FORMATS]
    return [Throughput("bare COPY as CSV", events / _shortest_time(export_by_server)), *rates]


def _shortest_time(work: Callable[[], object]) -> float:
    """Return the shortest of three durations, in seconds. Other work of the machine only makes a run longer."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
