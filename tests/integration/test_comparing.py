"""Comparing two builds on a real server finds what differs, and only that, also while events keep arriving."""

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
    """A row of another shape: a column more, and one less."""

    id: str
    confidence: float
    detected_at: float
    grade: str | None


class Graded(Projection[GradedRow, PatternEvent]):
    """Patterns of another shape: knows nothing of ``ZZZ``, keeps what has expired of ``KEEP``."""

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


class Lenient(Activity):
    """Counts one event more in each row of source ``b``."""

    version = 2

    def evolve(self, row: Any, event: Event) -> Any:
        evolved = super().evolve(row, event)
        return replace(evolved, events=2) if row is None and event.source == "b" else evolved


def detection(number: int, symbol: str = "AAPL", **fields: Any) -> PatternDetected:
    """Build the detection of a second after noon."""
    moment = NOON + number
    known = {"event_id": f"{symbol}-{number}", "occurred_at": moment, "detected_at": moment, "source": "a"}
    return pattern_detected(symbol=symbol, **{**known, **fields})


def append(client: Redis, log: str, events: Iterable[Event]) -> None:
    new = new_events(events)
    for start in range(0, len(new), 500):
        EventLog(client, log).append(new[start : start + 500])


def projector(client: Redis, projection: Projection[Any, Any], build: Build, log: str) -> Projector:
    store = RedisStore(client)
    [lease] = store.lease([Segment(projection.name, build, log)], "worker", 600)
    assert lease is not None
    return Projector(projection, EventLog(client, log), store, lease)


def build_up(client: Redis, projection: Projection[Any, Any], build: Build, *, batch: int = 500) -> None:
    """Fold all there is in all logs."""
    for log in LOGS:
        folding = projector(client, projection, build, log)
        while folding.step(batch, 0)[1]:
            pass


def compared(client: Redis, name: str = "patterns", **options: Any) -> list[Difference]:
    options = {"progress": lambda *_: None, **options}
    projection = Activity() if name == "activity" else ActivePatterns()
    return list(compare_builds(client, projection.name, LOGS, BuildPair(OLD, NEW), **options))


def rows(client: Redis, build: Build) -> dict[str, dict[str, Any]]:
    """All rows of ``patterns``, whose keys are in one log only."""
    found = {}
    for log in LOGS:
        for key, document in client.hgetall(SegmentKeys(Segment("patterns", build, log)).rows).items():
            found[key.decode()] = orjson.loads(document)
            del found[key.decode()]["position"]
    return found


def test_builds_of_the_same_code_are_equal(redis: Redis) -> None:
    for log, symbol in zip(LOGS, ("AAPL", "MSFT"), strict=True):
        append(redis, log, [detection(number, symbol) for number in range(1_200)])
    build_up(redis, ActivePatterns(), OLD, batch=7)
    build_up(redis, ActivePatterns(), NEW, batch=500)
    told: list[tuple[int, int]] = []
    assert compared(redis, progress=lambda done, total: told.append((done, total))) == []
    assert told[-1] == (4_800, 4_800)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) >= 10


def test_every_difference_is_found_once(redis: Redis) -> None:
    history: list[Event] = []
    for number in range(700):
        history += [detection(number, symbol, confidence=number % 10 / 10) for symbol in ("AAPL", "ZZZ", "KEEP")]
        if number % 3 == 0:
            history += [expiry_of(one) for one in history[-3:]]
    append(redis, LOGS[0], history)
    append(redis, LOGS[1], [detection(number, "MSFT") for number in range(3)])
    build_up(redis, ActivePatterns(), OLD)
    build_up(redis, Graded(), NEW)

    old, new = rows(redis, OLD), rows(redis, NEW)
    expected: dict[tuple[str, str], tuple[Any, Any]] = {}
    for key in old.keys() | new.keys():
        if key not in old or key not in new:
            expected[key, ""] = old.get(key), new.get(key)
            continue
        for field in old[key].keys() | new[key].keys():
            if old[key].get(field) != new[key].get(field):
                expected[key, field] = old[key].get(field), new[key].get(field)
    found = compared(redis)
    assert {(one.key, one.field): (one.old, one.new) for one in found} == expected
    assert len(found) == len(expected)

    fields = defaultdict(set)
    for one in found:
        fields[one.key.split(":")[0]].add(one.field)
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
    assert Difference("KEEP:Doji:daily:1757001600000", "", None, new["KEEP:Doji:daily:1757001600000"]) in found


@pytest.mark.parametrize(
    ("old", "new"), [(1, True), (1, 1.0), ("1", 1), ({"a": [1]}, {"a": [2]}), (0, None), ("", None), ([], {})]
)
def test_values_differ_as_json_does(redis: Redis, old: Any, new: Any) -> None:
    for build, value in ((OLD, old), (NEW, new)):
        keys = SegmentKeys(Segment("patterns", build, LOGS[0]))
        redis.hset(keys.rows, "key", orjson.dumps({"position": build.number, "value": value}))
        redis.hset(keys.state, "checkpoint", 2)
    [difference] = compared(redis)
    assert repr(difference) == repr(Difference("key", "value", old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}), ({}, {"a": None})],
)
def test_order_and_nulls_are_no_difference(redis: Redis, old: dict[str, Any], new: dict[str, Any]) -> None:
    for build, values in ((OLD, old), (NEW, new)):
        keys = SegmentKeys(Segment("patterns", build, LOGS[0]))
        redis.hset(keys.rows, "key", orjson.dumps({"position": build.number, **values}))
        redis.hset(keys.state, "checkpoint", 2)
    assert compared(redis) == []


@pytest.mark.parametrize(("ahead", "behind"), [(OLD, NEW), (NEW, OLD)])
def test_a_build_that_is_behind_is_waited_for(redis: Redis, ahead: Build, behind: Build) -> None:
    """Rows added, changed and removed by events that only one build has folded are no differences."""
    first = [detection(number) for number in range(5)]
    append(redis, LOGS[0], first)
    following = projector(redis, ActivePatterns(), behind, LOGS[0])
    following.step(500, 0)
    again = [detection(1, event_id="again", confidence=0.9), detection(7), expiry_of(first[2])]
    append(redis, LOGS[0], again)
    build_up(redis, ActivePatterns(), ahead)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(compared, redis)
        wait_for_looks(redis, found)
        assert not found.done()
        following.step(500, 0)
        assert found.result(30) == []


def wait_for_looks(client: Redis, found: Future[Any]) -> None:
    """Until the comparison has looked at the server three times, or is done."""

    def looks() -> int:
        return client.info("commandstats").get("cmdstat_exec", {"calls": 0})["calls"]

    before = looks()
    wait_until(lambda: looks() >= before + 3 or found.done(), "the rows have been looked at")


def test_rows_that_are_equal_only_because_one_build_is_behind_differ(redis: Redis) -> None:
    first, second = (detection(number, source="b", occurred_at=1_757_001_600.0) for number in range(2))
    append(redis, LOGS[0], [first])
    build_up(redis, Lenient(), NEW)
    append(redis, LOGS[0], [second])
    build_up(redis, Activity(), OLD)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(compared, redis, "activity")
        wait_for_looks(redis, found)
        projector(redis, Lenient(), NEW, LOGS[0]).step(500, 0)
        [difference] = found.result(30)
    assert difference[1:] == ("events", 2, 3)


def test_a_build_that_nobody_folds_ends_the_comparison(redis: Redis) -> None:
    append(redis, LOGS[0], [detection(0)])
    build_up(redis, ActivePatterns(), OLD)
    with pytest.raises(NotComparableError, match=r"1 rows, such as AAPL:Doji:daily:.*:1\.1 is at 1, .*:2\.2 at 0;"):
        compared(redis, standstill_seconds=0.05)


@contextmanager
def events_arriving(client: Redis, projections: dict[Build, Projection[Any, Any]]) -> Iterator[list[int]]:
    """Events keep coming, as fast as the slower build takes them; each build folds batches of its own size.

    Yields how many there have been of each kind of work: [appended, folded old, folded new].
    """
    stop = Signal()
    work = [0, 0, 0]
    projectors = [projector(client, projections[build], build, LOGS[0]) for build in (OLD, NEW)]

    def appending() -> None:
        for number in count():
            if stop.is_set():
                return
            begun = detection(number, "MSFT" if number % 2 else "AAPL", source="ab"[number % 2])
            earlier = detection(number // 2, "AAPL", event_id=f"{number}-again", confidence=number % 9 / 9)
            append(client, LOGS[0], [begun, earlier, *([expiry_of(begun)] if number % 3 == 0 else [])])
            work[0] += 1
            head = EventLog(client, LOGS[0]).head()
            while not stop.is_set() and head - min(one.lease.checkpoint for one in projectors) > 20:
                stop.wait(0.001)

    def folding(place: int, batch: int) -> None:
        while not stop.is_set():
            assert projectors[place - 1].step(batch, 0.1)[0] is CommitOutcome.COMMITTED
            work[place] += 1

    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(appending), pool.submit(folding, 1, 2), pool.submit(folding, 2, 7)]
        try:
            wait_until(lambda: min(work) > 20 or any(one.done() for one in running), "everybody works")
            yield work
        finally:
            stop.set()
        for one in running:
            one.result()


def test_while_events_arrive_builds_of_the_same_code_are_equal(redis: Redis) -> None:
    with events_arriving(redis, {OLD: ActivePatterns(), NEW: ActivePatterns()}) as work:
        for _ in range(10):
            before = list(work)
            assert compared(redis) == []
            wait_until(
                lambda before=before: all(now > was for now, was in zip(work, before, strict=True)), "work goes on"
            )


def test_while_events_arrive_the_true_difference_is_found(redis: Redis) -> None:
    """Rows that every event changes are compared at one position, where they differ by exactly one."""
    with events_arriving(redis, {OLD: Activity(), NEW: Lenient()}):
        for _ in range(10):
            found = compared(redis, "activity")
            assert {one.key.split("/")[2] for one in found} == {"b"}
            assert {one.field for one in found} == {"events"}
            assert {one.new - one.old for one in found} == {1}
