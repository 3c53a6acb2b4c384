"""The recorder role: listen to pub/sub, read the ingest stream, and write the counters of both to Redis."""

from functools import partial
from threading import Event, Thread

import structlog

from infra.heartbeats.heartbeats import Heartbeats
from infra.processes.identity import process_name
from infra.processes.threads import run_threads
from infra.recording.counters import CountersFlush
from infra.recording.ingest_reader import IngestReader
from infra.recording.intake import Intake
from infra.recording.pubsub_listener import WAY, PubsubListener
from infra.recording.recorder import Recorder
from infra.redis.connections import RedisClient

logger = structlog.get_logger()


def run_recorder(
    client: RedisClient, subscriber: RedisClient, recorder: Recorder, intake: Intake, *, batch_size: int, stop: Event
) -> None:
    """Record messages until ``stop`` is set. Messages in the intake are recorded before the end.

    Args:
        client: The connection for the ingest stream, the counters, the canaries and the heartbeats.
        subscriber: The connection for pub/sub. See ``PubsubListener``.
        recorder: The recorder for the ingest stream.
        intake: The intake for pub/sub, not started yet.
        batch_size: The number of entries of the ingest stream that are read at once, at least 1.
        stop: The event that ends the role.

    Raises:
        RuntimeError: A thread of the role has ended too early.
    """
    process = process_name()
    reader = IngestReader(client, recorder, process, batch_size)
    listener = PubsubListener(subscriber, client, intake, process, partial(recorder.last_recorded, WAY))
    counters = CountersFlush(client, {"pubsub": intake.counts, "stream": reader.counts})
    hearing = [listener.progress, intake.progress]
    heartbeats = Heartbeats(
        client,
        process,
        {
            "record": lambda: [*hearing, reader.progress],
            WAY: lambda: hearing,
            "stream": lambda: [reader.progress],
        },
    )
    intake.start()
    threads = [
        Thread(target=listener.run, args=(stop,), name="pub/sub", daemon=True),
        Thread(target=reader.run, args=(stop,), name="ingest stream", daemon=True),
    ]

    def every_second() -> None:
        intake.check_thread()
        counters.flush()
        heartbeats.beat()

    logger.info("recorder started")
    try:
        run_threads(threads, stop, every_second)
    finally:
        # The queued messages of pub/sub exist nowhere else.
        intake.close()
    counters.flush()
    heartbeats.withdraw("record")
