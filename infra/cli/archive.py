"""``tickview archive``: the role that archives the event log in PostgreSQL."""

from threading import Thread

from infra.archive.retention import Retention
from infra.archive.verification.schedule import verify_regularly
from infra.archive.worker import ArchiveOptions, ArchiveWorker
from infra.composition import Stores, open_all_logs, open_database, open_safe_redis
from infra.heartbeats.heartbeats import Heartbeats
from infra.operations.verification import verify_on_schedule
from infra.plugins import configure
from infra.processes.identity import process_name
from infra.processes.logs import configure_logs
from infra.processes.stop_signals import stop_on_signals
from infra.processes.threads import run_threads
from projections.registry import READ_MODELS


def archive() -> None:
    """Archive the event log in PostgreSQL in hash chains, and trim the archived part of the log.

    You can run several archivers. At any time only one of them works on a log.

    Example: TICKVIEW_REDIS_URL=redis://localhost TICKVIEW_POSTGRES_DSN=postgresql://localhost tickview archive
    """
    settings = configure()
    configure_logs(settings.log_level, "archive")
    database = open_database(settings, writable=True)
    stores = Stores(settings, open_safe_redis(settings), database)
    owner = process_name()
    options = ArchiveOptions(
        settings.lease_seconds,
        settings.archive_batch,
        Retention(age=settings.log_retention_age, size=settings.log_retention_size),
        tuple(projection for projection in READ_MODELS.values() if projection.history),
    )

    stop = stop_on_signals()

    logs = open_all_logs(stores)
    workers = [ArchiveWorker(database, stores.redis, log, owner, options) for log in logs.values()]
    threads = [
        Thread(target=worker.run, args=(stop,), name=name, daemon=True)
        for name, worker in zip(logs, workers, strict=True)
    ]
    if settings.verify_every:
        arguments = (database, settings.verify_every, stop, verify_on_schedule)
        threads.append(Thread(target=verify_regularly, args=arguments, name="verification", daemon=True))
    heartbeats = Heartbeats(
        stores.redis, owner, {"archive": lambda: [each for worker in workers for each in worker.progresses()]}
    )
    run_threads(threads, stop, heartbeats.beat)
    heartbeats.withdraw("archive")
