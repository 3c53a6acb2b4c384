"""Raises of the number of partitions on a real server: each stream stays in one log and in order, replays are equal."""

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import reduce
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from redis import Redis

from domain.events import Event
from domain.partitions import Partitions
from domain.streams import log_of, market_logs, symbol_stream
from domain.wire import Bounds
from infra.archive.event_history import EventHistory
from infra.composition import Stores, check_partitions, open_all_logs, open_dead_letters, open_recorder
from infra.log.directory import LogDirectory
from infra.log.errors import LogDivergedError, StreamElsewhereError
from infra.log.event_log import EventLog
from infra.log.partitions import LOGS_KEY, SEAL, fix_partitions, read_partitions, seal, store_partitions
from infra.operations.partitions import RaiseRefusedError, check_raise, raise_partitions, read_partition_status
from infra.postgres.database import Database
from infra.processes.errors import StartupError
from infra.projecting.projector import Projector
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from infra.recording.dead_letters import DeadLetters
from infra.recording.recorder import Recorder
from infra.redis.functions import load
from infra.settings import Settings
from projections.base import decode_row
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build
from tests.archiving import archive_to_end, archived_log
from tests.events import new_events, pattern_detected
from tests.logs import open_directory
from tests.processes.histories import random_history

numbers = count(1)


def recorder_of(logs: LogDirectory) -> Recorder:
    letters = DeadLetters(logs.client, max_count=100, max_bytes=1_000_000, max_age=1_000)
    return Recorder(logs, letters, Bounds())


def record(recorder: Recorder, *symbols: str) -> list[tuple[str, int]]:
    """Record a detection of each symbol. Return the log and the version of each."""
    events = [pattern_detected(symbol=symbol, event_id=f"raise-{next(numbers)}") for symbol in symbols]
    return [(event.log, event.version) for event in recorder.record_events(events, "http")]


def symbols_of(log: str, partitions: int, number: int, other: str = "", of: int = 1) -> list[str]:
    """Return symbols whose streams are in a log, with ``of`` partitions also in another log."""
    names = (f"S{name}" for name in count())
    fitting = (name for name in names if log_of(symbol_stream(name), partitions) == log)
    if other:
        fitting = (name for name in fitting if log_of(symbol_stream(name), of) == other)
    return [next(fitting) for _ in range(number)]


def streams_by_log(redis: Redis, partitions: int = 16) -> dict[str, dict[str, list[str]]]:
    """Read all market logs: log -> stream -> the ids of its events. Assert that versions have no gaps."""
    content: dict[str, dict[str, list[str]]] = {}
    for name in market_logs(partitions):
        streams: dict[str, list[str]] = defaultdict(list)
        for entry in EventLog(redis, name).read(0, 100_000):
            streams[entry.stream].append(entry.event_id)
            assert entry.version == len(streams[entry.stream])
        content[name] = dict(streams)
    return content


def test_a_stream_stays_in_its_log_and_new_streams_begin_in_added_partitions(redis: Redis) -> None:
    fix_partitions(redis, 2)
    logs = open_directory(redis, 2)
    [old, new] = symbols_of("market-0", 2, 2, other="market-2", of=4)
    stale = recorder_of(logs)
    assert record(stale, old) == [("market-0", 1)]
    open_directory(redis, 2).raise_partitions(Partitions(4, 2))
    fresh = recorder_of(LogDirectory(redis, lambda name: EventLog(redis, name), Partitions(4, 2)))
    assert record(fresh, old, new) == [("market-0", 2), ("market-2", 1)]
    assert logs.partitions == Partitions.of(2)
    assert record(stale, new, old, new) == [("market-2", 2), ("market-0", 3), ("market-2", 3)]
    assert logs.partitions == Partitions(4, 2)


def test_an_append_without_a_number_reaches_known_streams_of_a_sealed_partition_only(redis: Redis) -> None:
    """The expirer appends to the log whose rows it ends, and finds no log by itself."""
    log = EventLog(redis, "market-0")
    log.append(new_events([pattern_detected()]))
    seal(log, Partitions(4, 2))
    assert [appended.version for appended in log.append(new_events([pattern_detected()]))] == [2]
    with pytest.raises(StreamElsewhereError, match="sealed with 2-4") as refused:
        log.append(new_events([pattern_detected(), pattern_detected(symbol="NEW")]))
    assert refused.value.sealed == Partitions(4, 2)
    assert log.head() == 2


def test_known_streams_cost_no_round_trip(redis: Redis) -> None:
    fix_partitions(redis, 1)
    logs = open_directory(redis, 1)
    logs.raise_partitions(Partitions(8, 1))
    recorder = recorder_of(logs)
    symbols = [f"S{number}" for number in range(40)]
    record(recorder, *symbols)
    asked = redis.info("commandstats").get("cmdstat_fcall_ro", {}).get("calls", 0)
    record(recorder, *symbols)
    assert redis.info("commandstats").get("cmdstat_fcall_ro", {}).get("calls", 0) == asked


class Service:
    """Recorders that know different numbers of partitions, and raises that are interrupted."""

    def __init__(self, redis: Redis) -> None:
        redis.flushall()
        load(redis)
        fix_partitions(redis, 2)
        self.redis = redis
        self.raised = 2
        self.recorded: dict[str, list[str]] = defaultdict(list)
        self.directories: list[LogDirectory] = []
        self.recorders: list[Recorder] = []
        self.lost: set[str] = set()
        """The logs that have lost their seals."""
        self.start_recorder()

    def start_recorder(self) -> None:
        known = read_partitions(self.redis)
        assert known
        self.directories.append(LogDirectory(self.redis, lambda name: EventLog(self.redis, name), known))
        self.recorders.append(recorder_of(self.directories[-1]))

    def record(self, recorder: int, symbols: list[str]) -> None:
        events = [pattern_detected(symbol=symbol, event_id=f"raise-{next(numbers)}") for symbol in symbols]
        self.recorders[recorder % len(self.recorders)].record_events(events, "http")
        for event in events:
            self.recorded[event.stream].append(event.event_id)

    def raise_up_to(self, number: int, seals: int) -> None:
        """Raise the number, and be killed after some seals."""
        self.raised = max(self.raised, number)
        merged = store_partitions(self.redis, Partitions(self.raised, 2))
        for name in merged.names[:seals]:
            seal(EventLog(self.redis, name), merged)

    def lose_number(self) -> None:
        """Lose the number for all processes, as in a failover of its primary. The seals are on other primaries."""
        if not all(self.redis.hexists(EventLog(self.redis, name).keys.meta, "reign") for name in self.lost):
            return  # A loss of the number and of a seal that is not back yet is a loss of more than one primary.
        self.redis.hset(LOGS_KEY, "market", "2")

    def lose_seal(self, log: int) -> None:
        """Lose a seal, as in a failover of the primary of a log, which then must be opened."""
        if self.redis.hget(LOGS_KEY, "market") == b"2":  # A loss of both is a loss of more than one primary.
            return
        name = market_logs(self.raised)[log % self.raised]
        self.lost.add(name)
        self.redis.hdel(EventLog(self.redis, name).keys.meta, SEAL, "reign")


operations = st.one_of(
    st.tuples(st.just("record"), st.integers(0, 3), st.lists(st.sampled_from("ABCDEFGH"), min_size=1, max_size=4)),
    st.tuples(st.just("raise_up_to"), st.integers(2, 7), st.integers(0, 8)),
    st.tuples(st.just("start_recorder")),
    st.tuples(st.just("lose_number")),
    st.tuples(st.just("lose_seal"), st.integers(0, 7)),
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(st.lists(operations, max_size=25))
def test_each_stream_is_in_one_log_and_in_order_whatever_is_interrupted_or_lost(
    redis: Redis, steps: list[tuple[Any, ...]]
) -> None:
    service = Service(redis)
    for name, *arguments in steps:
        getattr(service, name)(*arguments)
    service.record(0, list("ABCDEFGH"))
    streams: dict[str, list[str]] = {}
    for log, content in streams_by_log(redis, 8).items():
        assert not content.keys() & streams.keys(), f"{log} has a stream of another log"
        streams |= content
    assert streams == service.recorded


Rows = Mapping[str, Mapping[str, Any]]
"""Read model -> key -> row, merged over all segments."""


def fold_all(redis: Redis, logs: LogDirectory, number: int) -> None:
    """Fold all logs to their ends into a build with a number."""
    store = RedisStore(redis)
    for name, projection in READ_MODELS.items():
        for log in filter(projection.folds, logs.market):
            [lease] = store.lease([Segment(name, Build(projection.version, number), log)], "worker", 60)
            assert lease is not None
            projector = Projector(projection, logs.market[log], store, lease)
            while projector.step(100, 0).events:
                pass
            store.release([projector.lease])


def rows_of(redis: Redis, logs: LogDirectory, number: int) -> Rows:
    """Read the rows of the segments of a build, and merge those of projections that merge."""
    rows: dict[str, dict[str, Any]] = {}
    for name, projection in READ_MODELS.items():
        parts: dict[str, list[Any]] = defaultdict(list)
        for log in filter(projection.folds, logs.market):
            keys = SegmentKeys(Segment(name, Build(projection.version, number), log))
            for key, document in redis.hgetall(keys.rows).items():
                parts[key.decode()].append(decode_row(projection.row, document).row)
        assert projection.merges() or all(len(each) == 1 for each in parts.values()), "a row is in two segments"
        rows[name] = {key: reduce(projection.merge, each) if each[1:] else each[0] for key, each in parts.items()}
    return rows


READS = {b"hash": Redis.hgetall, b"zset": lambda redis, key: dict(redis.zrange(key, 0, -1, withscores=True))}
"""For each type of the keys of a read model the function that reads a value."""


def stored_content(redis: Redis, number: int) -> dict[bytes, Any]:
    """Read the rows, indexes, counts and groups of all segments of a build, by the key without the build."""
    pattern = re.compile(rb"(tickview:\{\w+/market-\d+\}:)\d+\.%d:(?!state$|changes$)(.*)" % number)
    found = [(key, match) for key in redis.scan_iter(count=10_000) if (match := pattern.fullmatch(key))]
    with redis.pipeline(transaction=False) as pipeline:
        for key, _ in found:
            pipeline.type(key)
        types = pipeline.execute()
    return {b"".join(match.groups()): READS[kind](redis, key) for (key, match), kind in zip(found, types, strict=True)}


def record_in_batches(recorders: list[Recorder], events: list[Event]) -> None:
    for start in range(0, len(events), 40):
        recorders[start // 40 % len(recorders)].record_events(events[start : start + 40], "http")


def test_a_replay_across_a_raise_equals_that_of_a_log_created_with_the_raised_number(redis: Redis) -> None:
    history = random_history(600, seed=17)
    fix_partitions(redis, 2)
    logs = open_directory(redis, 2)
    stale = recorder_of(open_directory(redis, 2))
    record_in_batches([recorder_of(logs), stale], history[:80])
    fold_all(redis, logs, 1)
    store_partitions(redis, Partitions(5, 2))  # The command is killed here.
    logs.refresh()
    record_in_batches([stale, recorder_of(logs)], history[80:300])
    fold_all(redis, logs, 1)  # The live build goes on, with segments for the added partitions.
    fold_all(redis, logs, 2)  # A replay begins during the raise.
    logs.raise_partitions(Partitions(5, 2))
    record_in_batches([stale, recorder_of(logs)], history[300:])
    for build in (1, 2, 3):
        fold_all(redis, logs, build)
    assert {log for log, streams in streams_by_log(redis).items() if streams} == set(market_logs(5))
    live, *replays = (stored_content(redis, number) for number in (1, 2, 3))
    assert len(live) > 200
    assert [live, live] == replays
    across = rows_of(redis, logs, 3)
    in_order = {stream: ids for streams in streams_by_log(redis).values() for stream, ids in streams.items()}

    redis.flushall()
    created = open_directory(redis, 5)
    record_in_batches([recorder_of(created)], history)
    fold_all(redis, created, 1)
    assert rows_of(redis, created, 1) == across
    assert {s: ids for streams in streams_by_log(redis).values() for s, ids in streams.items()} == in_order
    assert all(across[name] for name in ("patterns", "backtests", "activity", "symbols", "universes", "producers"))


def stores_of(redis: Redis, url: str, database: Database, partitions: int) -> Stores:
    load(redis)
    return Stores(Settings(redis_url=url, partitions=partitions, durability="written"), redis, database)


@pytest.mark.parametrize("configured", [2, 4])
def test_an_empty_redis_gets_the_raised_number_and_the_streams_back_from_the_archive(
    redis: Redis, redis_url: str, database: Database, configured: int
) -> None:
    stores = stores_of(redis, redis_url, database, 2)
    logs = open_all_logs(stores)
    [old, new, later] = symbols_of("market-1", 2, 3, other="market-3", of=4)
    recorder = open_recorder(stores, logs, open_dead_letters(stores))
    assert record(recorder, old) == [("market-1", 1)]
    raise_partitions(logs, database, check_raise(logs, database, 4))
    assert record(recorder, old, new) == [("market-1", 2), ("market-3", 1)]
    for log in logs.market.values():
        archive_to_end(database, log)
    redis.flushall()
    stores = stores_of(redis, redis_url, database, configured)
    logs = open_all_logs(stores)
    assert logs.partitions == Partitions.of(configured)
    after = record(open_recorder(stores, logs, open_dead_letters(stores)), new, later, old)
    assert after == [("market-3", 2), ("market-3", 1), ("market-1", 3)]
    assert read_partitions(redis) == Partitions(4, 2)
    events = EventHistory(database, logs).of_pattern(f"{old}:Doji:daily:1757001600000", 10)
    assert [(event.log, event.entry.version) for event in events] == [("market-1", version) for version in (1, 2, 3)]


def test_an_archive_of_an_older_backup_gets_the_raised_number_back(
    redis: Redis, redis_url: str, database: Database
) -> None:
    stores = stores_of(redis, redis_url, database, 2)
    logs = open_all_logs(stores)
    record(open_recorder(stores, logs, open_dead_letters(stores)), "A")
    logs.raise_partitions(Partitions(4, 2))
    redis.hdel(logs["market-0"].keys.meta, "reign")
    logs["market-0"].open()
    with database.connection() as connection:
        assert connection.execute("SELECT partitions, created FROM tickview.families").fetchall() == [(4, 2)]


def test_an_archive_that_begins_after_a_raise_has_the_raised_number(redis: Redis, database: Database) -> None:
    fix_partitions(redis, 2)
    logs = open_directory(redis, 2)
    raise_partitions(logs, None, check_raise(logs, None, 4))
    record(recorder_of(logs), "A", "B", "C")
    log = archived_log(redis, database)
    assert archive_to_end(database, log) == log.head()
    with database.connection() as connection:
        assert connection.execute("SELECT partitions, created FROM tickview.families").fetchall() == [(4, 2)]


def test_an_archive_of_another_log_stops_a_raise(redis: Redis, redis_url: str, database: Database) -> None:
    logs = open_all_logs(stores_of(redis, redis_url, database, 2))
    with database.connection() as connection:
        connection.execute("INSERT INTO tickview.families VALUES ('market', 16)")
    with pytest.raises(LogDivergedError, match="the archive has 16 partitions of the market log"):
        raise_partitions(logs, database, check_raise(logs, database, 4))
    assert read_partitions(redis) == Partitions.of(2)
    assert [status.sealed for status in read_partition_status(logs)] == [None, None]


def test_a_lower_number_and_a_raise_without_the_archive_are_refused(
    redis: Redis, redis_url: str, database: Database
) -> None:
    logs = open_all_logs(stores_of(redis, redis_url, database, 4))
    with pytest.raises(RaiseRefusedError, match="Their number cannot be lowered to 3"):
        check_raise(logs, database, 3)
    logs["market-2"].append(new_events([pattern_detected()]))
    archive_to_end(database, logs["market-2"])
    with pytest.raises(RaiseRefusedError, match="Set TICKVIEW_POSTGRES_DSN"):
        check_raise(logs, None, 8)


@pytest.mark.parametrize(
    ("configured", "message"),
    [
        (1, "has 4 partitions. Set TICKVIEW_PARTITIONS=4"),
        (5, "run `tickview partitions raise 5`. Else set TICKVIEW_PARTITIONS=4"),
    ],
)
def test_a_role_starts_with_a_number_that_the_log_has_or_had(redis: Redis, configured: int, message: str) -> None:
    store_partitions(redis, Partitions(4, 2))
    for fitting in (2, 3, 4):
        assert check_partitions(Stores(Settings(partitions=fitting), redis, None)) == Partitions(4, 2)
    with pytest.raises(StartupError, match=message):
        check_partitions(Stores(Settings(partitions=configured), redis, None))
