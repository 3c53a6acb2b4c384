"""Part of ``tickview bench archive``: the rate at which the history of patterns is folded, beside that of the archive.

Each pattern is detected, later changed and later ended. The three events are so far apart that the projector no longer
keeps the pattern: it reads and folds the earlier events again.
"""

import time
from collections.abc import Callable, Iterator

from redis import Redis
from rich.progress import Progress

from domain.codec import encode, topic_of
from domain.events import Event, PatternDetected, PatternExpired, PatternUpdated
from domain.wire import read
from infra.archive.archiver import ARCHIVE, FORMAT_VERSION, Archiver
from infra.archive.leases import acquire_lease
from infra.archive.row_history.projector import HistoryProjector
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

LOG = "market-1"
"""Name of the log, which no other measurement uses."""


def measure(database: Database, client: Redis, patterns: int, symbols: int, archive_batch: int) -> list[Throughput]:
    """Archive three events of each pattern and fold them into the history.

    Args:
        database: An empty archive.
        client: The server of the log.
        patterns: Number of patterns.
        symbols: Number of symbols of the patterns.
        archive_batch: Highest number of events per archive transaction.

    Returns:
        The rate of the archive as the limit, and the rates of the three kinds of events, in events per second.
    """
    batch_size = min(BATCH_SIZE, patterns)
    patterns -= patterns % batch_size  # No batch has events of two kinds.
    log = EventLog(client, LOG)
    log.open()
    for batch in batches(list(_events(patterns, symbols)), APPEND_BATCH):
        log.append([NewEvent(each.stream, topic_of(type(each)), encode(each), each.event_id) for each in batch])
    tables = HistoryTables(ActivePatterns)
    with database.connection() as connection:
        archive_lease = acquire_lease(connection, ARCHIVE, FORMAT_VERSION, LOG, "bench", 36_000)
        tables.create(connection)
        tables.create_indexes(connection)
        lease = acquire_lease(connection, tables.name, ActivePatterns.version, LOG, "bench", 36_000)
    assert archive_lease is not None
    assert lease is not None
    collect_garbage_by_batch()
    archiver = Archiver(database, log, archive_lease, archive_batch)
    archived = _rate("archive (the same events)", lambda: len(archiver.step(0)), 3 * patterns)
    projector = HistoryProjector(database, ActivePatterns(), lease, batch_size)
    kinds = ("detections", "later changes", "later ends")
    return with_shares(archived, *(_rate(f"fold {kind}", projector.step, patterns) for kind in kinds))


def _events(patterns: int, symbols: int) -> Iterator[Event]:
    """Yield all detections, then a change of each of them, then the end of each of them."""
    detected = [
        event
        for message in detections(patterns, symbols, time.time())
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
