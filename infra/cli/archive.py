"""``tickview archive``: the role that archives the event log in PostgreSQL."""

from contextlib import suppress
from threading import Thread

from redis.exceptions import RedisError

from infra.archive.log_sharing import ROLE
from infra.archive.retention import Retention
from infra.archive.verification.schedule import verify_regularly
from infra.archive.worker import ArchiveOptions, ArchiveWorker
from infra.composition import Stores, open_all_logs, open_database, open_safe_redis
from infra.heartbeats.heartbeats import Heartbeats
from infra.operations.verification import verify_on_schedule
from infra.plugins import configure
from infra.processes.identity import process_name
from infra.processes.logs import configure_logs
from infra.processes.memory import collect_garbage_by_batch
from infra.processes.stop_signals import stop_on_signals
from infra.processes.threads import run_threads
from projections.registry import READ_MODELS


def archive() -> None:
    """Archive the event log in PostgreSQL in hash chains, and trim the archived part of the log.

    You can run several archivers. They share the logs, and at any time only one of them works on a log.

    Example: TICKVIEW_REDIS_URL=redis://localhost TICKVIEW_POSTGRES_DSN=postgresql://localhost tickview archive
    """
    settings = configure()
    configure_logs(settings.log_level, "archive")
    database = open_database(settings, writable=True)
    stores = Stores(settings, open_safe_redis(settings), database)
    logs = open_all_logs(stores)
    owner = process_name()
    options = ArchiveOptions(
        settings.lease_seconds,
        settings.archive_batch,
        Retention(age=settings.log_retention_age, size=settings.log_retention_size),
        tuple(projection for projection in READ_MODELS.values() if projection.history),
        shared_logs=logs,
    )

    stop = stop_on_signals()

    workers: dict[str, ArchiveWorker] = {}

    def new_threads() -> list[Thread]:
        """Return a thread for each log that has none."""
        added = [name for name in logs if name not in workers]
        for name in added:
            workers[name] = ArchiveWorker(database, stores.redis, logs[name], owner, options)
        return [Thread(target=workers[name].run, args=(stop,), name=name, daemon=True) for name in added]

    threads = new_threads()
    if settings.verify_every:
        arguments = (database, settings.verify_every, stop, verify_on_schedule)
        threads.append(Thread(target=verify_regularly, args=arguments, name="verification", daemon=True))
    heartbeats = Heartbeats(
        stores.redis, owner, {ROLE: lambda: [each for worker in workers.values() for each in worker.progresses()]}
    )

    def every_second() -> None:
        heartbeats.beat()
        with suppress(RedisError):  # The heartbeats log an outage.
            logs.refresh()
        for thread in new_threads():
            thread.start()
            threads.append(thread)

    collect_garbage_by_batch()
    run_threads(threads, stop, every_second)
    heartbeats.withdraw(ROLE)
