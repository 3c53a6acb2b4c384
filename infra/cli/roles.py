"""``tickview record``, ``project`` and ``serve``: roles that each run as a process."""

from typing import Any

import typer

from infra.composition import (
    open_all_logs,
    open_dead_letters,
    open_intake,
    open_market_logs,
    open_recorder,
    open_stores,
    redis_url,
)
from infra.plugins import configure
from infra.processes.identity import process_name
from infra.processes.logs import configure_logs
from infra.processes.stop_signals import stop_on_signals
from infra.projecting.worker import Worker
from infra.projecting.worker_options import WorkerOptions
from infra.recording.role import run_recorder
from infra.redis.connections import connect
from infra.tracing import tracing
from infra.tracing.selection import projector_class
from projections.registry import READ_MODELS


def record() -> None:
    """Record the messages of producers, from pub/sub and from the ingest stream, in the event log.

    Example: TICKVIEW_REDIS_URL=redis://localhost tickview record
    """
    settings = configure()
    configure_logs(settings.log_level, "record")
    stores = open_stores(settings)
    recorder = open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))
    with tracing("record"):
        run_recorder(
            stores.redis,
            connect(redis_url(settings), retries=0),
            recorder,
            open_intake(recorder, settings),
            batch_size=settings.batch_size,
            stop=stop_on_signals(),
        )


def project() -> None:
    """Fold the event log into the read models. All running workers share the work.

    Example: TICKVIEW_REDIS_URL=redis://localhost tickview project
    """
    settings = configure()
    configure_logs(settings.log_level, "project")
    stores = open_stores(settings)
    options = WorkerOptions(
        settings.lease_seconds, settings.fold_batch, settings.replay_throttle, projector_class=projector_class()
    )
    worker = Worker(stores.redis, process_name(), READ_MODELS, open_all_logs(stores), options)
    with tracing("project"):
        worker.run(stop_on_signals())


def serve(
    host: str = typer.Option(None, help="Address to listen on. Default: TICKVIEW_HOST, else 127.0.0.1."),
    port: int = typer.Option(None, help="Port to listen on. Default: TICKVIEW_PORT, else 8000."),
) -> None:
    """Serve the query API over HTTP.

    Example: TICKVIEW_REDIS_URL=redis://localhost tickview serve --port 8000
    """
    from infra.serving.server import run_server

    changes: dict[str, Any] = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    run_server(configure(**changes))
