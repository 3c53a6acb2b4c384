"""The gap before the first subscription of a recorder, if Redis has lost what earlier recorders wrote."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread

from redis import Redis

from domain.announcements import Message
from domain.partitions import Partitions
from domain.wire import PATTERNS, Bounds
from infra.log.directory import LogDirectory
from infra.postgres.database import Database
from infra.recording.dead_letters import DeadLetters
from infra.recording.gaps import read_gaps
from infra.recording.intake import Intake
from infra.recording.pubsub_listener import WAY, PubsubListener
from infra.recording.recorder import Recorder
from infra.redis.functions import load
from tests.archiving import archive_to_end, archived_log
from tests.processes.roles import wait_until

PAYLOAD = b'{"event_type": "pattern_detected", "data": {"symbol": "S%d", "pattern": "Doji", "confidence": 0.5}}'


@contextmanager
def recorder_of(redis: Redis, database: Database) -> Iterator[Recorder]:
    logs = LogDirectory(redis, lambda name: archived_log(redis, database, name), Partitions.of(4))
    yield Recorder(logs, DeadLetters(redis, max_count=100, max_bytes=1_000_000, max_age=3_600), Bounds())
    for log in logs.values():
        archive_to_end(database, log)


def record(recorder: Recorder, via: str, *numbers: int) -> None:
    recorder.record([Message(PATTERNS, PAYLOAD % number, time.time(), via) for number in numbers])


def first_gaps(redis: Redis, recorder: Recorder) -> list[tuple[float, float]]:
    """Run a listener until it hears its canary. Return the beginnings and ends of the gaps that Redis has."""
    stop = Event()
    intake = Intake(recorder.record, backlog=10, batch_size=10, batch_seconds=0)
    listener = PubsubListener(redis, redis, intake, "new", partial(recorder.last_recorded, WAY))
    thread = Thread(target=listener.run, args=(stop,))
    intake.start()
    thread.start()
    try:
        wait_until(lambda: listener.progress.has_begun, "the listener hears its canary")
    finally:
        stop.set()
        thread.join()
        intake.close()
    return [(gap.began_at, gap.ended_at) for gap in read_gaps(redis)]


def test_a_recorder_that_starts_on_a_wiped_server_stores_the_gap_since_the_last_message(
    redis: Redis, database: Database
) -> None:
    load(redis)
    with recorder_of(redis, database) as recorder:
        began = time.time()
        record(recorder, "pubsub", 1, 2)
        heard_until = time.time()
        record(recorder, "http", *range(3, 40))
    redis.flushall()
    with recorder_of(redis, database) as recorder:
        [(gap_began, gap_ended)] = first_gaps(redis, recorder)
    assert began <= gap_began <= heard_until <= gap_ended <= time.time()


def test_the_first_recorder_of_a_service_stores_no_gap(redis: Redis, database: Database) -> None:
    load(redis)
    with recorder_of(redis, database) as recorder:
        record(recorder, "http", 1, 2)
        assert first_gaps(redis, recorder) == []
