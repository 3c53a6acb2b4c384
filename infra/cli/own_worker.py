"""The worker of a command: it folds inside the command while no other worker runs."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from infra.composition import Stores, open_all_logs
from infra.operations.foldability import check_builder, has_running_worker
from infra.processes.identity import process_name
from infra.processes.memory import collect_garbage_by_batch
from infra.projecting.worker import Worker
from infra.projecting.worker_options import WorkerOptions
from projections.fingerprint import ProjectionCode
from projections.registry import READ_MODELS

POLL_SECONDS = 0.05
"""Seconds between two checks whether the worker has announced its code."""


@contextmanager
def ensure_worker(stores: Stores, code: ProjectionCode) -> Iterator[None]:
    """Run a worker of a read model in this process until the context ends, if no worker of the read model runs.

    Raises:
        NotFoldableError: This code does not build an existing version, so that a worker in this process is not safe.
        StartupError: Another worker has begun to fold the version with other code.
    """
    if has_running_worker(stores.redis, code):
        yield
        return
    check_builder(stores.redis, code)
    settings = stores.settings
    worker = Worker(
        stores.redis,
        process_name(),
        {code.read_model: READ_MODELS[code.read_model]},
        open_all_logs(stores),
        WorkerOptions(settings.lease_seconds, settings.fold_batch),
    )
    collect_garbage_by_batch()
    stop = Event()
    with ThreadPoolExecutor(1, "worker") as pool:
        work = pool.submit(worker.run, stop)
        try:
            while not (work.done() or has_running_worker(stores.redis, code)):
                time.sleep(POLL_SECONDS)
            yield
        finally:
            stop.set()
            work.result()
