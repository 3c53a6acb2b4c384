"""The recorder's process: listens, reads the ingest stream, and keeps the counts where the API can read them."""

import os
import socket
from threading import Event, Thread

import structlog
from redis import Redis

from infra.composition import open_intake, open_recorder, redis_url
from infra.connections import connect
from infra.counts import flush, uncounted_yet
from infra.listeners import IngestReader, listen
from infra.settings import Settings
from infra.threads import run_threads

logger = structlog.get_logger()


def process_name() -> str:
    """A name that no other process has had."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(3).hex()}"


def run_recorder(client: Redis, settings: Settings, stop: Event) -> None:
    """Record until ``stop`` is set; what has been taken in is recorded before the end."""
    recorder = open_recorder(client, settings)
    intake = open_intake(recorder, settings)
    reader = IngestReader(client, recorder, process_name(), settings.batch_size)
    counts = {"pubsub": intake.counts, "stream": reader.counts}
    uncounted = uncounted_yet()
    intake.start()
    threads = [
        Thread(
            target=listen,
            args=(connect(redis_url(settings)), intake, stop),
            name="pub/sub",
            daemon=True,
        ),
        Thread(target=reader.run, args=(stop,), name="ingest stream", daemon=True),
    ]
    logger.info("recording")
    run_threads(threads, stop, lambda: flush(client, counts, uncounted))
    intake.close()
    flush(client, counts, uncounted)
