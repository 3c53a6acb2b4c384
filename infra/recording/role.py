"""The recorder role: listen to pub/sub, read the ingest stream, and write the counters of both to Redis."""

from threading import Event, Thread

import structlog
from redis import Redis

from infra.processes.identity import process_name
from infra.processes.threads import run_threads
from infra.recording.counters import CountersFlush
from infra.recording.ingest_reader import IngestReader
from infra.recording.intake import Intake
from infra.recording.pubsub_listener import listen
from infra.recording.recorder import Recorder

logger = structlog.get_logger()


def run_recorder(
    client: Redis, subscriber: Redis, recorder: Recorder, intake: Intake, *, batch_size: int, stop: Event
) -> None:
    """Record messages until ``stop`` is set. Messages in the intake are recorded before the end.

    Args:
        client: The connection for the ingest stream and the counters.
        subscriber: The connection for pub/sub.
        recorder: The recorder for the ingest stream.
        intake: The intake for pub/sub, not started yet.
        batch_size: The number of entries of the ingest stream that are read at once, at least 1.
        stop: The event that ends the role.

    Raises:
        RuntimeError: A thread of the role has ended too early.
    """
    reader = IngestReader(client, recorder, process_name(), batch_size)
    counters = CountersFlush(client, {"pubsub": intake.counts, "stream": reader.counts})
    intake.start()
    threads = [
        Thread(target=listen, args=(subscriber, intake, stop), name="pub/sub", daemon=True),
        Thread(target=reader.run, args=(stop,), name="ingest stream", daemon=True),
    ]

    def every_second() -> None:
        intake.check_thread()
        counters.flush()

    logger.info("recorder started")
    run_threads(threads, stop, every_second)
    intake.close()
    counters.flush()
