"""``tickview bench archive``: archiving beside a bare COPY, verification beside bare SHA-256, of the same bytes."""

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
from infra.archive.verification.verify import snapshot, verify
from infra.bench.measurement import PROGRESS, Throughput, beside
from infra.log.event_log import EventLog
from infra.postgres.database import Database

EXPORTED: tuple[Format, ...] = ("jsonl", "csv", "parquet")

_ROWS = "COPY (SELECT * FROM tickview.events WHERE log = %s ORDER BY position) TO STDOUT (FORMAT binary)"


@contextmanager
def own_database(server_dsn: str, name: str) -> Iterator[Database]:
    """A database of this name with our schema, beside others on a server."""
    with connect(server_dsn, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    database = Database(server_dsn.replace("/postgres?", f"/{name}?"))
    database.check()
    yield database
    database.close()


def measure(server_dsn: str, log: EventLog, batch_size: int, folder: Path) -> dict[str, list[Throughput]]:
    """Archive the log, verify the archive and export it; each with its limit first."""
    with own_database(server_dsn, "archive") as archive, own_database(server_dsn, "bare") as bare:
        rates = {"archive": beside(*_archive(archive, bare, log, batch_size))}
        with connect(archive.dsn, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE tickview.events")
        rates["verify"] = beside(*_verify(archive, log))
        rates["export"] = beside(*_export(archive, log, folder))
    return rates


def _archive(database: Database, bare: Database, log: EventLog, batch_size: int) -> tuple[Throughput, Throughput]:
    """Archiving and bare COPY take turns batch by batch, so that whatever else the machine does falls on both."""
    with database.connection() as connection:
        lease = acquire_lease(connection, ARCHIVE, FORMAT_VERSION, log.name, "bench", 36_000)
    assert lease is not None
    archiver = Archiver(database, log, lease, batch_size)
    with bare.connection() as connection:
        create_month_partition(connection, start_of_month(datetime.now(UTC).timestamp()))
    events = log.head()
    archiving = copying = 0.0
    # What has been imported and filled stays: it is not for archiving to pay for looking through it.
    gc.collect()
    gc.freeze()
    with Progress(console=PROGRESS, transient=True) as bar, connect(bare.dsn) as connection:
        task = bar.add_task("archiving", total=events)
        while lease.checkpoint < events:
            started = time.perf_counter()
            entries = archiver.step(0)
            archiving += time.perf_counter() - started
            rows = [encode_copy_row(canonical_bytes(log.name, entry), GENESIS) for entry in entries]
            data = b"".join((COPY_HEADER, *rows, COPY_TRAILER))
            started = time.perf_counter()
            with connection.cursor().copy(COPY_EVENTS) as copy:
                copy.write(data)
            connection.commit()
            copying += time.perf_counter() - started
            bar.advance(task, len(entries))
    return (
        Throughput(f"bare COPY of the same bytes, {batch_size:,} events a commit", events / copying),
        Throughput("archive (read the log, encode, chain, COPY, checkpoint)", events / archiving),
    )


def _verify(database: Database, log: EventLog) -> tuple[Throughput, ...]:
    with snapshot(database) as connection, connection.cursor().copy(_ROWS, [log.name]) as copy:
        contents = [split_row(row)[0] for row in received_rows(copy)]
    events = len(contents)
    whole = b"".join(contents)

    def chained() -> None:
        hash_ = GENESIS
        for content in contents:
            hash_ = sha256(hash_ + content).digest()

    def read() -> None:
        with snapshot(database) as connection, connection.cursor().copy(_ROWS, [log.name]) as copy:
            for _ in received_rows(copy):
                pass

    def verified() -> None:
        if not verify(database).ok:
            raise RuntimeError("what was archived does not verify")

    return (
        Throughput(f"bare SHA-256, event by event, {len(whole) // events} bytes each", events / _best(chained)),
        Throughput("bare SHA-256 of all bytes at once", events / _best(lambda: sha256(whole))),
        Throughput("reading the rows, nothing else", events / _best(read)),
        Throughput("verify (read, hash, compare)", events / _best(verified)),
    )


def _export(database: Database, log: EventLog, folder: Path) -> list[Throughput]:
    """Beside what the server itself writes as CSV."""
    file = folder / "events"
    events = log.head()

    def by_server() -> None:
        sql = "COPY (SELECT * FROM tickview.events ORDER BY log, position) TO STDOUT (FORMAT csv)"
        with snapshot(database) as connection, file.open("wb") as out, connection.cursor().copy(sql) as copy:
            while data := copy.read():
                out.write(data)

    def exporting(form: Format) -> Callable[[], None]:
        def run() -> None:
            with file.open("wb") as out:
                export(database, out, form)

        return run

    rates = [Throughput(f"export as {form}", events / _best(exporting(form))) for form in EXPORTED]
    return [Throughput("bare COPY as CSV", events / _best(by_server)), *rates]


def _best(work: Callable[[], object]) -> float:
    """Seconds, the least of three: whatever else the machine does only adds."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
