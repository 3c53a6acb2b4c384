"""``tickview project``: the role that folds the event log into the read models."""

from infra.composition import open_all_logs, open_stores
from infra.plugins import configure
from infra.processes.identity import process_name
from infra.processes.logs import configure_logs
from infra.processes.memory import collect_garbage_by_batch
from infra.processes.stop_signals import stop_on_signals
from infra.projecting.worker import Worker
from infra.projecting.worker_options import WorkerOptions
from infra.tracing import tracing
from infra.tracing.selection import projector_class
from projections.registry import READ_MODELS


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
    collect_garbage_by_batch()
    with tracing("project"):
        worker.run(stop_on_signals())
