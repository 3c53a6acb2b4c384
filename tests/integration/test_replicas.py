"""The replica as it follows a real Valkey: loaded while rows change, through switches, lost commits and lost rows."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from infra.read_models.keys import SegmentKeys
from infra.read_models.pattern_queries import RedisPatternQueries
from infra.read_models.versions import change_versions
from infra.redis.connections import connect_async
from infra.serving import replicas
from infra.serving.changes_follower import ChangesFollower
from infra.serving.freshness import RedisFreshness
from infra.serving.replicas import ReplicatedPatterns
from projections.patterns import ActivePatterns, PatternRow
from projections.ports import Segment
from projections.queries import Page, PatternQueries, PatternQuery
from projections.versions import Build
from readapi.ports.commits import Commit, CommitIds, CommitListener
from tests.oracles import queries as oracle
from tests.pattern_queries import (
    LOGS,
    NOW,
    few_or_many_rows,
    log_of_pattern,
    many_rows,
    pattern_queries,
    pattern_rows,
    rows_by_id,
)
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter
from tests.tasks import cancel_and_wait, wait_for_condition

SECOND = Build(1, 2)
EVERYTHING = PatternQuery(now=0.0, limit=100)

on_a_server = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Filled:
    """The rows of one build, and how they are changed."""

    def __init__(self, redis: Redis, build: Build = FIRST_BUILD) -> None:
        self.rows: dict[str, PatternRow] = {}
        self._writers = {log: SegmentWriter(redis, ActivePatterns(), log, build) for log in LOGS}

    def put(self, rows: dict[str, PatternRow | None]) -> None:
        for log, writer in self._writers.items():
            if own := {key: row for key, row in rows.items() if log_of_pattern(key) == log}:
                writer.put(own)
        self.rows = {key: row for key, row in (self.rows | rows).items() if row}


class Heard(CommitListener):
    """What a listener is told."""

    def __init__(self) -> None:
        self.begun: list[tuple[Build, CommitIds]] = []
        self.commits: list[Commit] = []

    def start_build(self, build: Build, last_commits: CommitIds) -> None:
        self.begun.append((build, last_commits))
        self.commits = []

    def receive(self, commit: Commit) -> None:
        self.commits.append(commit)


def deploy(redis: Redis) -> None:
    change_versions(redis, "patterns", lambda versions: versions.deployed(1))


def switch(redis: Redis) -> None:
    change_versions(redis, "patterns", lambda versions: versions.replayed(1, held=False, throttle=0))
    change_versions(redis, "patterns", lambda versions: versions.switched(SECOND))


@asynccontextmanager
async def following(
    url: str, max_rows: int = 100_000, listener: CommitListener | None = None
) -> AsyncIterator[ReplicatedPatterns]:
    async with connect_async(url) as asking, connect_async(url) as waiting:
        patterns = ReplicatedPatterns(LOGS, lambda build: RedisPatternQueries(asking, build, LOGS), max_rows)
        if listener:
            patterns.add_commit_listener(listener)
        task = asyncio.create_task(ChangesFollower(waiting, [patterns], RedisFreshness()).run())
        try:
            yield patterns
            assert not task.done(), task.exception()
        finally:
            await cancel_and_wait(task)


def answers_from_replica(patterns: ReplicatedPatterns, build: Build = FIRST_BUILD) -> bool:
    return patterns.current.queries.source == "replica" and patterns.current.build == build


async def ids_at_end(patterns: ReplicatedPatterns, filled: Filled) -> set[str]:
    """What a scan shows once everything that was put is known, page by page."""
    positions = dict.fromkeys(LOGS, 0) | {log: writer.checkpoint for log, writer in filled._writers.items()}
    assert await patterns.reached(positions, 60)
    ids: set[str] = set()
    query = EVERYTHING
    while True:
        page = await patterns.current.queries.scan(query)
        ids |= {found.row.id for found in page.rows}
        if page.end is None:
            return ids
        query = query._replace(after=page.end)


def assert_answer(page: Page[PatternRow], expected: oracle.QueryResult) -> None:
    assert ([found.row.id for found in page.rows], page.total, page.end) == expected


@on_a_server
@given(
    few_or_many_rows,
    st.lists(st.tuples(pattern_rows, st.booleans()), max_size=15),
    st.lists(pattern_queries(), min_size=4, max_size=12),
)
def test_replica_and_redis_and_the_oracle_agree(
    redis: Redis,
    redis_url: str,
    rows: list[PatternRow],
    changes: list[tuple[PatternRow, bool]],
    queries: list[PatternQuery],
) -> None:
    redis.flushall()
    deploy(redis)
    filled = Filled(redis)
    filled.put(dict(rows_by_id(rows)))

    async def test() -> None:
        async with following(redis_url) as patterns, connect_async(redis_url) as client:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            await asyncio.to_thread(filled.put, {row.id: None if removed else row for row, removed in changes})
            await ids_at_end(patterns, filled)
            implementations: tuple[PatternQueries, ...] = (
                patterns.current.queries,
                RedisPatternQueries(client, FIRST_BUILD, LOGS),
            )
            assert [one.source for one in implementations] == ["replica", "redis"]
            for query in queries:
                expected = oracle.scan(filled.rows.values(), query)
                pages = [await one.scan(query) for one in implementations]
                for page in pages:
                    assert_answer(page, expected)
                assert list(pages[0].rows) == list(pages[1].rows)
                counted = [await one.statistics(query.now) for one in implementations]
                assert counted[0] == counted[1]
                for row in list(filled.rows.values())[:5]:
                    found = [await one.get(row.id, query.now) for one in implementations]
                    assert found[0] == found[1]

    asyncio.run(test())


def test_loaded_while_rows_change(redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "PAGE_ROWS", 10)
    deploy(redis)
    filled = Filled(redis)
    rows = many_rows(5_000)
    filled.put(dict(rows))
    keys = list(rows)

    loaded = Event()

    def change() -> int:
        """Rows come and go for as long as it loads; returns how often."""
        for number in count():
            part = keys[number * 50 % 5_000 :][:50]
            filled.put({key: None if (number + place) % 3 == 0 else rows[key] for place, key in enumerate(part)})
            if loaded.is_set():
                return number
        raise AssertionError

    async def test() -> None:
        async with following(redis_url) as patterns:
            await wait_for_condition(lambda: patterns.is_loading)
            changing = asyncio.create_task(asyncio.to_thread(change))
            await wait_for_condition(lambda: answers_from_replica(patterns))
            loaded.set()
            assert await changing > 3
            assert await ids_at_end(patterns, filled) == set(filled.rows)

    asyncio.run(test())


def test_every_commit_is_heard_once_with_what_was_before_it(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    filled = Filled(redis)
    [first, second, *_] = many_rows(20).values()
    filled.put({first.id: first})
    heard = Heard()

    async def test() -> None:
        async with following(redis_url, listener=heard) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            [(build, marks)] = heard.begun
            assert (build, set(marks)) == (FIRST_BUILD, set(LOGS))
            kept = [change for commit in heard.commits for change in commit.changes]
            assert [(change.key, change.old) for change in kept] == [(first.id, None)]
            assert not any(commit.knows_old for commit in heard.commits)
            changed = replace(first, confidence=0.123)
            for rows in ({second.id: second}, {first.id: changed}, {first.id: None}):
                await asyncio.to_thread(filled.put, rows)
            await wait_for_condition(lambda: len(heard.commits) == 4)
            now = heard.commits[1:]
            assert all(commit.knows_old for commit in now)
            told = [(change.key, change.old, change.new) for commit in now for change in commit.changes]
            assert [key for key, *_ in told] == [second.id, first.id, first.id]
            assert told[0][1] is None
            assert told[2][2] is None
            assert told[1][1] is not None
            assert told[1][2] == told[2][1]
            assert b'"confidence":0.123' in (told[1][2] or b"")

    asyncio.run(test())


def test_commits_that_are_kept_no_more_are_noticed(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    filled = Filled(redis)
    rows = many_rows(60)
    filled.put(dict(list(rows.items())[:20]))
    heard = Heard()

    async def test() -> None:
        async with following(redis_url, listener=heard) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            # All in one step, as if the process had slept meanwhile.
            redis.client_pause(2_000, all=False)
            changing = asyncio.create_task(asyncio.to_thread(filled.put, dict(list(rows.items())[20:])))
            redis.client_unpause()
            await changing
            await ids_at_end(patterns, filled)
            for log in LOGS:
                changes = SegmentKeys(Segment("patterns", FIRST_BUILD, log)).changes
                redis.xtrim(changes, maxlen=0, approximate=False)
                redis.hincrby(
                    SegmentKeys(Segment("patterns", FIRST_BUILD, log)).state, "changes", 1
                )  # one that nobody saw
            removed = dict.fromkeys(list(rows)[:10])
            await asyncio.to_thread(filled.put, removed)
            await wait_for_condition(lambda: len(heard.begun) > 1)
            await wait_for_condition(lambda: answers_from_replica(patterns))
            assert await ids_at_end(patterns, filled) == set(filled.rows)

    asyncio.run(test())


def test_after_a_switch_the_former_build_answers_until_the_new_one_is_whole(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PAGE_ROWS", 10)
    deploy(redis)
    sizes = {FIRST_BUILD: 300, SECOND: 3_000}
    filled = {build: Filled(redis, build) for build in sizes}
    for build, size in sizes.items():
        filled[build].put(dict(many_rows(size)))
    heard = Heard()

    async def test() -> None:
        async with following(redis_url, listener=heard) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            await asyncio.to_thread(switch, redis)
            seen: set[tuple[Build, str, int]] = set()
            while not answers_from_replica(patterns, SECOND):
                current = patterns.current
                seen.add((current.build, current.queries.source, (await current.queries.scan(EVERYTHING)).total))
                await asyncio.sleep(0)
            assert seen == {(FIRST_BUILD, "replica", 300)}
            assert (await patterns.current.queries.scan(EVERYTHING)).total == 3_000
            assert [build for build, _ in heard.begun] == [FIRST_BUILD, SECOND]
            await asyncio.to_thread(filled[SECOND].put, dict.fromkeys(list(filled[SECOND].rows)[:100]))
            assert await ids_at_end(patterns, filled[SECOND]) == set(filled[SECOND].rows)

    asyncio.run(test())


def test_past_its_bound_redis_answers_and_afterwards_the_replica_again(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "RETRY_SECONDS", 0.05)
    deploy(redis)
    filled = Filled(redis)
    rows = many_rows(200)
    filled.put(dict(list(rows.items())[:100]))

    async def test() -> None:
        async with following(redis_url, max_rows=150) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            await asyncio.to_thread(filled.put, dict(rows))
            await wait_for_condition(lambda: patterns.current.queries.source == "redis")
            assert await ids_at_end(patterns, filled) == set(rows)
            await asyncio.to_thread(filled.put, dict.fromkeys(list(rows)[:100]))
            await wait_for_condition(lambda: answers_from_replica(patterns))
            assert await ids_at_end(patterns, filled) == set(filled.rows)

    asyncio.run(test())


def test_without_a_bound_there_is_no_replica(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    filled = Filled(redis)
    rows: Iterable[PatternRow] = many_rows(10).values()

    async def test() -> None:
        async with following(redis_url, max_rows=0) as patterns:
            await asyncio.to_thread(filled.put, {row.id: row for row in rows})
            assert await ids_at_end(patterns, filled) == set(filled.rows)
            assert patterns.current.queries.source == "redis"
            assert not patterns.is_loading

    asyncio.run(test())


def test_a_server_that_has_less_than_it_had_is_loaded_anew(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    filled = Filled(redis)
    rows = many_rows(40)
    filled.put(dict(rows))

    async def test() -> None:
        async with following(redis_url) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            before = patterns.current
            # What a restart from an older state leaves: every connection broken, and less than before.
            redis.flushall()
            deploy(redis)
            fewer = Filled(redis)
            fewer.put(dict(list(rows.items())[:15]))
            redis.client_kill_filter(_type="normal", skipme=True)
            await wait_for_condition(lambda: patterns.current is not before and answers_from_replica(patterns))
            assert await ids_at_end(patterns, fewer) == set(list(rows)[:15])

    asyncio.run(test())


def test_rows_that_elapse_are_gone_whoever_answers(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    filled = Filled(redis)
    filled.put(dict(many_rows(100)))

    async def test() -> None:
        async with following(redis_url) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            queries = patterns.current.queries
            before = await queries.scan(PatternQuery(now=NOW - 0.001))
            after = await queries.scan(PatternQuery(now=NOW))
            assert (before.total, after.total) == (100, 98)
            state = queries.state(NOW)
            assert state is not None
            assert state == queries.state(NOW + 1)
            assert state != queries.state(NOW - 1)

    asyncio.run(test())
