"""The comparison of two builds on a real Valkey, without and with events that arrive during the comparison."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from threading import Event as Signal
from typing import Any

import orjson
import pytest
from redis import Redis

from domain.events import Event, PatternDetected, PatternEvent, PatternExpired
from infra.log.event_log import EventLog
from infra.projecting.projector import Projector
from infra.read_models.comparison import BuildPair, Difference, NotComparableError, compare_builds
from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from projections.activity import Activity
from projections.base import Projection
from projections.patterns import ActivePatterns
from projections.ports import CommitOutcome, Segment
from projections.versions import Build
from tests.events import NOON, expiry_of, new_events, pattern_detected
from tests.processes.roles import wait_until

LOGS = ("market-0", "market-1")
OLD, NEW = Build(1, 1), Build(2, 2)


@dataclass(frozen=True, slots=True)
class GradedRow:
    """A row of patterns with other columns."""

    id: str
    confidence: float
    detected_at: float
    grade: str | None


class GradedPatterns(Projection[GradedRow, PatternEvent]):
    """A version of patterns with other columns. It ignores symbol ``ZZZ`` and does not expire symbol ``KEEP``."""

    name, version = "patterns", 2
    row = GradedRow
    handles = (PatternDetected, PatternExpired)

    def keys(self, event: Any) -> Iterable[str]:
        return ActivePatterns().keys(event) if event.symbol != "ZZZ" else ()

    def evolve(self, row: GradedRow | None, event: Any) -> GradedRow | None:
        if isinstance(event, PatternExpired):
            return row if event.symbol == "KEEP" else None
        key = f"{event.symbol}:{event.pattern}:{event.tier}:{round(event.detected_at * 1000)}"
        return GradedRow(key, event.confidence, event.detected_at, "high" if event.confidence > 0.8 else None)


class DoubleCountingActivity(Activity):
    """A version of activity that counts one event too many in each row of source ``b``."""

    version = 2

    def evolve(self, row: Any, event: Event) -> Any:
        evolved = super().evolve(row, event)
        return replace(evolved, events=2) if row is None and event.source == "b" else evolved


def detection(number: int, symbol: str = "AAPL", **fields: Any) -> PatternDetected:
    """Build the detection at a number of seconds after noon."""
    moment = NOON + number
    defaults = {"event_id": f"{symbol}-{number}", "occurred_at": moment, "detected_at": moment, "source": "a"}
    return pattern_detected(symbol=symbol, **{**defaults, **fields})


def append(client: Redis, log: str, events: Iterable[Event]) -> None:
    new = new_events(events)
    for start in range(0, len(new), 500):
        EventLog(client, log).append(new[start : start + 500])


def projector(client: Redis, projection: Projection[Any, Any], build: Build, log: str) -> Projector:
    store = RedisStore(client)
    [lease] = store.lease([Segment(projection.name, build, log)], "worker", 600)
    assert lease is not None
    return Projector(projection, EventLog(client, log), store, lease)


def fold_logs(client: Redis, projection: Projection[Any, Any], build: Build, *, batch: int = 500) -> None:
    """Fold all events of all logs into a build."""
    for log in LOGS:
        segment_projector = projector(client, projection, build, log)
        while segment_projector.step(batch, 0)[1]:
            pass


def compare(client: Redis, name: str = "patterns", **options: Any) -> list[Difference]:
    options = {"progress": lambda *_: None, **options}
    projection = Activity() if name == "activity" else ActivePatterns()
    return list(compare_builds(client, projection.name, LOGS, BuildPair(OLD, NEW), **options))


def rows(client: Redis, build: Build) -> dict[str, dict[str, Any]]:
    """Return all rows of a build of ``patterns``. Each key is in one log."""
    result = {}
    for log in LOGS:
        for key, document in client.hgetall(SegmentKeys(Segment("patterns", build, log)).rows).items():
            result[key.decode()] = orjson.loads(document)
            del result[key.decode()]["position"]
    return result


def test_builds_of_the_same_projection_are_equal(redis: Redis) -> None:
    for log, symbol in zip(LOGS, ("AAPL", "MSFT"), strict=True):
        append(redis, log, [detection(number, symbol) for number in range(1_200)])
    fold_logs(redis, ActivePatterns(), OLD, batch=7)
    fold_logs(redis, ActivePatterns(), NEW, batch=500)
    reports: list[tuple[int, int]] = []
    assert compare(redis, progress=lambda done, total: reports.append((done, total))) == []
    assert reports[-1] == (4_800, 4_800)
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    assert len(reports) >= 10


def test_every_difference_is_reported_once(redis: Redis) -> None:
    history: list[Event] = []
    for number in range(700):
        history += [detection(number, symbol, confidence=number % 10 / 10) for symbol in ("AAPL", "ZZZ", "KEEP")]
        if number % 3 == 0:
            history += [expiry_of(event) for event in history[-3:]]
    append(redis, LOGS[0], history)
    append(redis, LOGS[1], [detection(number, "MSFT") for number in range(3)])
    fold_logs(redis, ActivePatterns(), OLD)
    fold_logs(redis, GradedPatterns(), NEW)

    old, new = rows(redis, OLD), rows(redis, NEW)
    expected: dict[tuple[str, str], tuple[Any, Any]] = {}
    for key in old.keys() | new.keys():
        if key not in old or key not in new:
            expected[key, ""] = old.get(key), new.get(key)
            continue
        for field in old[key].keys() | new[key].keys():
            if old[key].get(field) != new[key].get(field):
                expected[key, field] = old[key].get(field), new[key].get(field)
    differences = compare(redis)
    assert {(entry.key, entry.field): (entry.old, entry.new) for entry in differences} == expected
    assert len(differences) == len(expected)

    fields = defaultdict(set)
    for entry in differences:
        fields[entry.key.split(":")[0]].add(entry.field)
    assert fields["ZZZ"] == {""}
    assert fields["AAPL"] == {
        "symbol",
        "pattern",
        "tier",
        "updated_at",
        "indicators",
        "source",
        "event_id",
        "extra",
        "grade",
    }
    assert Difference("KEEP:Doji:daily:1757001600000", "", None, new["KEEP:Doji:daily:1757001600000"]) in differences


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (1, 1.0), ("1", 1), ({"a": [1]}, {"a": [2]}), (0, None), ("", None), ([], {})]
)
def test_values_differ_if_their_json_differs(redis: Redis, old: Any, new: Any) -> None:
    for build, value in ((OLD, old), (NEW, new)):
        keys = SegmentKeys(Segment("patterns", build, LOGS[0]))
        redis.hset(keys.rows, "key", orjson.dumps({"position": build.number, "value": value}))
        redis.hset(keys.state, "checkpoint", 2)
    [difference] = compare(redis)
    assert repr(difference) == repr(Difference("key", "value", old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}), ({}, {"a": None})],
)
def test_the_order_of_fields_and_null_fields_are_no_difference(
    redis: Redis, old: dict[str, Any], new: dict[str, Any]
) -> None:
    for build, values in ((OLD, old), (NEW, new)):
        keys = SegmentKeys(Segment("patterns", build, LOGS[0]))
        redis.hset(keys.rows, "key", orjson.dumps({"position": build.number, **values}))
        redis.hset(keys.state, "checkpoint", 2)
    assert compare(redis) == []


@pytest.mark.parametrize(("ahead", "behind"), [(OLD, NEW), (NEW, OLD)])
def test_the_comparison_waits_for_the_build_that_is_behind(redis: Redis, ahead: Build, behind: Build) -> None:
    """Rows added, changed and removed by events that only one build has folded are no differences."""
    first = [detection(number) for number in range(5)]
    append(redis, LOGS[0], first)
    late_projector = projector(redis, ActivePatterns(), behind, LOGS[0])
    late_projector.step(500, 0)
    later = [detection(1, event_id="again", confidence=0.9), detection(7), expiry_of(first[2])]
    append(redis, LOGS[0], later)
    fold_logs(redis, ActivePatterns(), ahead)
    with ThreadPoolExecutor(1) as pool:
        comparison = pool.submit(compare, redis)
        wait_for_reads(redis, comparison)
        assert not comparison.done()
        late_projector.step(500, 0)
        assert comparison.result(30) == []


def wait_for_reads(client: Redis, comparison: Future[Any]) -> None:
    """Wait until the comparison has read the rows three times or has ended."""

    def reads() -> int:
        return client.info("commandstats").get("cmdstat_exec", {"calls": 0})["calls"]

    before = reads()
    wait_until(lambda: reads() >= before + 3 or comparison.done(), "the comparison has read the rows three times")


def test_rows_that_are_equal_at_different_positions_differ(redis: Redis) -> None:
    first, second = (detection(number, source="b", occurred_at=1_757_001_600.0) for number in range(2))
    append(redis, LOGS[0], [first])
    fold_logs(redis, DoubleCountingActivity(), NEW)
    append(redis, LOGS[0], [second])
    fold_logs(redis, Activity(), OLD)
    with ThreadPoolExecutor(1) as pool:
        comparison = pool.submit(compare, redis, "activity")
        wait_for_reads(redis, comparison)
        projector(redis, DoubleCountingActivity(), NEW, LOGS[0]).step(500, 0)
        [difference] = comparison.result(30)
    assert difference[1:] == ("events", 2, 3)


def test_a_build_that_no_worker_folds_ends_the_comparison(redis: Redis) -> None:
    append(redis, LOGS[0], [detection(0)])
    fold_logs(redis, ActivePatterns(), OLD)
    with pytest.raises(NotComparableError, match=r"1 rows, such as AAPL:Doji:daily:.*:1\.1 is at 1, .*:2\.2 at 0;"):
        compare(redis, standstill_seconds=0.05)


def test_builds_that_have_folded_nothing_are_not_equal(redis: Redis) -> None:
    """Otherwise a replay that is compared before any worker has folded would go live without a comparison."""
    append(redis, LOGS[0], [detection(0, source="b")])
    with pytest.raises(NotComparableError, match=r"no build reaches \[1, 0\]"):
        compare(redis, "activity", standstill_seconds=0.05)
    with ThreadPoolExecutor(1) as pool:
        comparison = pool.submit(compare, redis, "activity")
        fold_logs(redis, Activity(), OLD)
        fold_logs(redis, DoubleCountingActivity(), NEW)
        [difference] = comparison.result(30)
    assert difference[1:] == ("events", 1, 2)


@contextmanager
def events_arriving(client: Redis, projections: dict[Build, Projection[Any, Any]]) -> Iterator[list[int]]:
    """Append events, as fast as the slower build folds them. Each build folds batches of another size.

    Yields:
        The number of completed steps: [appends, batches of the old build, batches of the new build].
    """
    stop = Signal()
    steps = [0, 0, 0]
    projectors = [projector(client, projections[build], build, LOGS[0]) for build in (OLD, NEW)]

    def append_events() -> None:
        for number in count():
            if stop.is_set():
                return
            first = detection(number, "MSFT" if number % 2 else "AAPL", source="ab"[number % 2])
            repeated = detection(number // 2, "AAPL", event_id=f"{number}-again", confidence=number % 9 / 9)
            append(client, LOGS[0], [first, repeated, *([expiry_of(first)] if number % 3 == 0 else [])])
            steps[0] += 1
            head = EventLog(client, LOGS[0]).head()
            while not stop.is_set() and head - min(worker.lease.checkpoint for worker in projectors) > 3:
                stop.wait(0.001)

    def fold(index: int, batch: int) -> None:
        while not stop.is_set():
            assert projectors[index - 1].step(batch, 0.1)[0] is CommitOutcome.COMMITTED
            steps[index] += 1

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(append_events), pool.submit(fold, 1, 2), pool.submit(fold, 2, 7)]
        try:
            wait_until(
                lambda: min(steps) > 20 or any(future.done() for future in futures), "each thread has made 20 steps"
            )
            yield steps
        finally:
            stop.set()
        for future in futures:
            future.result()


def test_builds_of_the_same_projection_are_equal_while_events_arrive(redis: Redis) -> None:
    with events_arriving(redis, {OLD: ActivePatterns(), NEW: ActivePatterns()}) as steps:
        for _ in range(10):
            before = list(steps)
            assert compare(redis) == []
            wait_until(
                lambda before=before: all(now > was for now, was in zip(steps, before, strict=True)),
                "each thread has made another step",
            )


def test_only_true_differences_are_reported_while_events_arrive(redis: Redis) -> None:
    """Every event changes the rows. At equal positions they differ by exactly one event."""
    with events_arriving(redis, {OLD: Activity(), NEW: DoubleCountingActivity()}):
        for _ in range(10):
            differences = compare(redis, "activity")
            assert {entry.key.split("/")[2] for entry in differences} == {"b"}
            assert {entry.field for entry in differences} == {"events"}
            assert {entry.new - entry.old for entry in differences} == {1}
