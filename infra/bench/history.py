"""Part of ``tickview bench archive``: the rate at which the history of patterns is folded, beside that of the archive.

Each pattern is detected, later changed and later ended. The events are folded twice: by a projector that keeps the last
states of all patterns, and by projectors that keep none and read the earlier events of each pattern again.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from redis import Redis
from rich.progress import Progress

from domain.codec import encode, topic_of
from domain.events import Event, PatternDetected, PatternExpired, PatternUpdated
from domain.wire import read
from infra.archive.archiver import ARCHIVE, FORMAT_VERSION, Archiver
from infra.archive.leases import PostgresLease, acquire_lease
from infra.archive.row_history.projector import KEPT_UNITS, HistoryProjector
from infra.archive.row_history.tables import HistoryTables
from infra.archive.row_history.worker import BATCH_SIZE
from infra.bench.detections import detections
from infra.bench.measurement import PROGRESS_CONSOLE, Throughput, batches, with_shares
from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from infra.postgres.database import Database
from infra.processes.memory import collect_garbage_by_batch
from projections.patterns import ActivePatterns

APPEND_BATCH = 1_000
"""Number of events per append."""

KEPT_LOG, READ_LOG = "market-1", "market-2"
"""Names of the logs of patterns whose states are kept, and are not. No other measurement uses these logs."""

KINDS = ("detections", "later changes", "later ends")
"""The kinds of events in their order."""


def measure(database: Database, client: Redis, patterns: int, symbols: int, archive_batch: int) -> list[Throughput]:
    """Archive three events of each pattern and fold them into the history, twice.

    Args:
        database: An empty archive.
        client: The server of the logs.
        patterns: Number of patterns. The states of at most ``KEPT_UNITS`` patterns are kept.
        symbols: Number of symbols of the patterns.
        archive_batch: Highest number of events per archive transaction.

    Returns:
        The rate of the archive as the limit, and the rates of the kinds of events, in events per second.
    """
    collect_garbage_by_batch()
    batch_size = min(BATCH_SIZE, patterns)
    patterns -= patterns % batch_size  # No batch has events of two kinds.
    kept = min(patterns, KEPT_UNITS - KEPT_UNITS % batch_size)
    archived = _archive(database, client, READ_LOG, list(_events(patterns, symbols, time.time())), archive_batch)
    _archive(database, client, KEPT_LOG, list(_events(kept, symbols, time.time() - 86_400)), archive_batch)
    keeping = HistoryProjector(database, ActivePatterns(), _lease(database, KEPT_LOG), batch_size)
    kept_rates = [_rate(f"fold {kind}", keeping.step, kept) for kind in KINDS]
    lease = _lease(database, READ_LOG)

    def step() -> int:
        return HistoryProjector(database, ActivePatterns(), lease, batch_size).step()

    read_rates = [_rate(f"fold {kind}, earlier events read again", step, patterns) for kind in KINDS]
    return with_shares(archived, *kept_rates, *read_rates[1:])


def _archive(database: Database, client: Redis, name: str, events: Sequence[Event], batch_size: int) -> Throughput:
    """Record events in a log, archive the log, and return the rate of archiving."""
    log = EventLog(client, name)
    log.open()
    for batch in batches(events, APPEND_BATCH):
        log.append([NewEvent(each.stream, topic_of(type(each)), encode(each), each.event_id) for each in batch])
    with database.connection() as connection:
        lease = acquire_lease(connection, ARCHIVE, FORMAT_VERSION, name, "bench", 36_000)
    assert lease is not None
    archiver = Archiver(database, log, lease, batch_size)
    return _rate("archive (the same events)", lambda: len(archiver.step(0)), len(events))


def _lease(database: Database, log: str) -> PostgresLease:
    """Create the tables of the history, and acquire the lease of the projector of a log."""
    tables = HistoryTables(ActivePatterns)
    with database.connection() as connection:
        tables.create(connection)
        tables.create_indexes(connection)
        lease = acquire_lease(connection, tables.name, ActivePatterns.version, log, "bench", 36_000)
    assert lease is not None
    return lease


def _events(patterns: int, symbols: int, now: float) -> Iterator[Event]:
    """Yield all detections, then a change of each of them, then the end of each of them."""
    detected = [
        event
        for message in detections(patterns, symbols, now)
        for event in read(message.channel, message.payload, message.received_at).events
        if isinstance(event, PatternDetected)
    ]
    yield from detected
    for event in detected:
        yield PatternUpdated.model_validate({**_later(event, 1), "confidence": 0.5})
    for event in detected:
        yield PatternExpired.model_validate({**_later(event, 2), "reason": "announced"})


def _later(event: PatternDetected, seconds: float) -> dict[str, object]:
    """Return the fields of a later event about the pattern of a detection."""
    names = ("source", "symbol", "pattern", "tier", "detected_at")
    fields = {name: getattr(event, name) for name in names}
    return {**fields, "event_id": f"{event.event_id}-{seconds}", "occurred_at": event.occurred_at + seconds}


def _rate(name: str, step: Callable[[], int], events: int) -> Throughput:
    """Measure the rate of steps that process so many events."""
    done = 0
    started = time.perf_counter()
    with Progress(console=PROGRESS_CONSOLE, transient=True) as bar:
        task = bar.add_task(name, total=events)
        while done < events:
            done += (count := step())
            bar.advance(task, count)
    return Throughput(name, done / (time.perf_counter() - started))
