"""The growth of the archive: the cost of archiving an event, and its size in PostgreSQL."""

import time

from rich.progress import Progress

from infra.archive.archiver import ARCHIVE, FORMAT_VERSION, Archiver
from infra.archive.leases import acquire_lease
from infra.bench.archive import create_database
from infra.bench.errors import BenchmarkError
from infra.bench.growth.measurements import Measurements, Quantity
from infra.bench.growth.populations import SizedPopulation
from infra.bench.measurement import PROGRESS_CONSOLE
from infra.bench.population import LEASE_SECONDS

ARCHIVER = Quantity("archive: archiver", "µs/event")
ARCHIVE_BYTES = Quantity("archive in PostgreSQL, with indexes", "bytes/event")

_SIZE = (
    "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0) FROM pg_inherits "
    "WHERE inhparent = 'tickview.events'::regclass"
)


def measure(population: SizedPopulation, server_dsn: str, measured: Measurements) -> None:
    """Archive the log of a population in a database of its own.

    Raises:
        BenchmarkError: Another archiver has the lease of the log.
    """
    [log] = population.logs.values()
    events = log.head()
    with create_database(server_dsn, f"growth_{population.size}") as database:
        with database.connection() as connection:
            lease = acquire_lease(connection, ARCHIVE, FORMAT_VERSION, log.name, "bench", LEASE_SECONDS)
        if lease is None:
            raise BenchmarkError(f"Another archiver holds the lease of {log.name}.")
        archiver = Archiver(database, log, lease, population.settings.archive_batch)
        with Progress(console=PROGRESS_CONSOLE, transient=True) as bar:
            task = bar.add_task(f"archiving {events:,} events", total=events)
            started = time.process_time()
            while entries := archiver.step(0):
                bar.advance(task, len(entries))
            measured.add(ARCHIVER, population.size, (time.process_time() - started) / events * 1e6)
        with database.connection() as connection:
            [[size]] = connection.execute(_SIZE)
        measured.add(ARCHIVE_BYTES, population.size, float(size) / events)
