"""``tickview record``: the role that records the messages of producers."""

from infra.composition import open_dead_letters, open_intake, open_market_logs, open_recorder, open_stores, redis_url
from infra.plugins import configure
from infra.processes.logs import configure_logs
from infra.processes.memory import collect_garbage_by_batch
from infra.processes.stop_signals import stop_on_signals
from infra.recording.role import run_recorder
from infra.redis.connections import connect
from infra.tracing import tracing


def record() -> None:
    """Record the messages of producers, from pub/sub and from the ingest stream, in the event log.

    Example: TICKVIEW_REDIS_URL=redis://localhost tickview record
    """
    settings = configure()
    configure_logs(settings.log_level, "record")
    stores = open_stores(settings)
    recorder = open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))
    collect_garbage_by_batch()
    with tracing("record"):
        run_recorder(
            stores.redis,
            connect(redis_url(settings), retries=0),
            recorder,
            open_intake(recorder, settings),
            batch_size=settings.batch_size,
            stop=stop_on_signals(),
        )
