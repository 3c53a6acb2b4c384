"""The replica that follows a real Valkey: changes while it loads, switches, lost commits and lost rows."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from threading import Event

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from domain.partitions import Partitions
from infra.log.partitions import store_partitions
from infra.read_models.keys import SegmentKeys
from infra.read_models.row_queries import RedisRowQueries
from infra.redis.connections import connect_async
from infra.serving import replicas
from projections.patterns import ActivePatterns, PatternRow
from projections.ports import Segment
from projections.queries import Query, RowQueries
from projections.versions import Build
from tests.integration.replica_support import (
    ALL_PATTERNS,
    SECOND_BUILD,
    CommitRecorder,
    PatternRows,
    answers_from_replica,
    deploy,
    following,
    scan_ids_at_end,
    switch,
)
from tests.oracles import rows as oracle
from tests.pattern_queries import (
    LOGS,
    NOW,
    few_or_many_rows,
    many_rows,
    pattern_queries,
    pattern_rows,
    rows_by_id,
)
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter
from tests.tasks import wait_for_condition

on_a_server = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@on_a_server
@given(
    few_or_many_rows,
    st.lists(st.tuples(pattern_rows, st.booleans()), max_size=15),
    st.lists(pattern_queries(), min_size=4, max_size=12),
)
def test_the_replica_and_redis_answer_as_the_oracle(
    redis: Redis,
    redis_url: str,
    rows: list[PatternRow],
    changes: list[tuple[PatternRow, bool]],
    queries: list[Query],
) -> None:
    redis.flushall()
    deploy(redis)
    stored_patterns = PatternRows(redis)
    stored_patterns.put(dict(rows_by_id(rows)))

    async def test() -> None:
        async with following(redis_url) as patterns, connect_async(redis_url) as client:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            await asyncio.to_thread(stored_patterns.put, {row.id: None if removed else row for row, removed in changes})
            await scan_ids_at_end(patterns, stored_patterns)
            implementations: tuple[RowQueries[PatternRow], ...] = (
                patterns.current.queries,
                RedisRowQueries(client, ActivePatterns(), FIRST_BUILD, LOGS),
            )
            assert [implementation.source for implementation in implementations] == ["replica", "redis"]
            for query in queries:
                expected = oracle.page(ActivePatterns, stored_patterns.rows, query)
                pages = [await implementation.page(query) for implementation in implementations]
                for page in pages:
                    assert ([result.key for result in page.rows], page.total, page.end) == expected
                assert list(pages[0].rows) == list(pages[1].rows)
                names = [count.name for count in ActivePatterns.counts]
                counts = [await implementation.counts(names, query.now) for implementation in implementations]
                assert counts[0] == counts[1]
                for row in list(stored_patterns.rows.values())[:5]:
                    rows_read = [await implementation.get(row.id, query.now) for implementation in implementations]
                    assert rows_read[0] == rows_read[1]

    asyncio.run(test())


def test_a_replica_loads_completely_while_rows_change(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PAGE_ROWS", 10)
    deploy(redis)
    stored_patterns = PatternRows(redis)
    rows = many_rows(5_000)
    stored_patterns.put(dict(rows))
    keys = list(rows)

    loaded = Event()

    def change() -> int:
        """Write and remove rows until the replica is loaded. Return the number of commits."""
        for number in count():
            part = keys[number * 50 % 5_000 :][:50]
            stored_patterns.put(
                {key: None if (number + place) % 3 == 0 else rows[key] for place, key in enumerate(part)}
            )
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
            assert await scan_ids_at_end(patterns, stored_patterns) == set(stored_patterns.rows)

    asyncio.run(test())


def test_a_listener_receives_every_commit_once_with_the_former_rows(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    stored_patterns = PatternRows(redis)
    [first, second, *_] = many_rows(20).values()
    stored_patterns.put({first.id: first})
    recorder = CommitRecorder()

    async def test() -> None:
        async with following(redis_url, listener=recorder) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            [(build, last_commits)] = recorder.builds
            assert (build, set(last_commits)) == (FIRST_BUILD, set(LOGS))
            loaded = [change for commit in recorder.commits for change in commit.changes]
            assert [(change.key, change.old) for change in loaded] == [(first.id, None)]
            assert not any(commit.knows_old for commit in recorder.commits)
            changed = replace(first, confidence=0.123)
            for rows in ({second.id: second}, {first.id: changed}, {first.id: None}):
                await asyncio.to_thread(stored_patterns.put, rows)
            await wait_for_condition(lambda: len(recorder.commits) == 4)
            later_commits = recorder.commits[1:]
            assert all(commit.knows_old for commit in later_commits)
            changes = [(change.key, change.old, change.new) for commit in later_commits for change in commit.changes]
            assert [key for key, *_ in changes] == [second.id, first.id, first.id]
            assert changes[0][1] is None
            assert changes[2][2] is None
            assert changes[1][1] is not None
            assert changes[1][2] == changes[2][1]
            assert b'"confidence":0.123' in (changes[1][2] or b"")

    asyncio.run(test())


def test_a_replica_is_loaded_again_after_commits_left_the_changes_stream_unread(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    stored_patterns = PatternRows(redis)
    rows = many_rows(60)
    stored_patterns.put(dict(list(rows.items())[:20]))
    recorder = CommitRecorder()

    async def test() -> None:
        async with following(redis_url, listener=recorder) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            # The commits arrive in one step, as after a stall of the process.
            redis.client_pause(2_000, all=False)
            changing = asyncio.create_task(asyncio.to_thread(stored_patterns.put, dict(list(rows.items())[20:])))
            redis.client_unpause()
            await changing
            await scan_ids_at_end(patterns, stored_patterns)
            for log in LOGS:
                keys = SegmentKeys(Segment("patterns", FIRST_BUILD, log))
                redis.xtrim(keys.changes, maxlen=0, approximate=False)
                redis.hincrby(keys.state, "changes", 1)  # a commit whose entry was trimmed before the replica read it
            removed = dict.fromkeys(list(rows)[:10])
            await asyncio.to_thread(stored_patterns.put, removed)
            await wait_for_condition(lambda: len(recorder.builds) > 1)
            await wait_for_condition(lambda: answers_from_replica(patterns))
            assert await scan_ids_at_end(patterns, stored_patterns) == set(stored_patterns.rows)

    asyncio.run(test())


def test_after_a_switch_the_former_build_answers_until_the_new_build_is_loaded(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PAGE_ROWS", 10)
    deploy(redis)
    sizes = {FIRST_BUILD: 300, SECOND_BUILD: 3_000}
    stored_patterns = {build: PatternRows(redis, build) for build in sizes}
    for build, size in sizes.items():
        stored_patterns[build].put(dict(many_rows(size)))
    recorder = CommitRecorder()

    async def test() -> None:
        async with following(redis_url, listener=recorder) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            await asyncio.to_thread(switch, redis)
            seen: set[tuple[Build, str, int]] = set()
            while not answers_from_replica(patterns, SECOND_BUILD):
                current = patterns.current
                seen.add((current.build, current.queries.source, (await current.queries.page(ALL_PATTERNS)).total))
                await asyncio.sleep(0)
            assert seen == {(FIRST_BUILD, "replica", 300)}
            assert (await patterns.current.queries.page(ALL_PATTERNS)).total == 3_000
            assert [build for build, _ in recorder.builds] == [FIRST_BUILD, SECOND_BUILD]
            await asyncio.to_thread(
                stored_patterns[SECOND_BUILD].put, dict.fromkeys(list(stored_patterns[SECOND_BUILD].rows)[:100])
            )
            assert await scan_ids_at_end(patterns, stored_patterns[SECOND_BUILD]) == set(
                stored_patterns[SECOND_BUILD].rows
            )

    asyncio.run(test())


def test_redis_answers_while_there_are_more_rows_than_the_bound_of_the_replica(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "RETRY_SECONDS", 0.05)
    deploy(redis)
    stored_patterns = PatternRows(redis)
    rows = many_rows(200)
    stored_patterns.put(dict(list(rows.items())[:100]))

    async def test() -> None:
        async with following(redis_url, max_rows=150) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            await asyncio.to_thread(stored_patterns.put, dict(rows))
            await wait_for_condition(lambda: patterns.current.queries.source == "redis")
            assert await scan_ids_at_end(patterns, stored_patterns) == set(rows)
            await asyncio.to_thread(stored_patterns.put, dict.fromkeys(list(rows)[:100]))
            await wait_for_condition(lambda: answers_from_replica(patterns))
            assert await scan_ids_at_end(patterns, stored_patterns) == set(stored_patterns.rows)

    asyncio.run(test())


def test_a_bound_of_zero_disables_the_replica(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    stored_patterns = PatternRows(redis)
    rows: Iterable[PatternRow] = many_rows(10).values()

    async def test() -> None:
        async with following(redis_url, max_rows=0) as patterns:
            await asyncio.to_thread(stored_patterns.put, {row.id: row for row in rows})
            assert await scan_ids_at_end(patterns, stored_patterns) == set(stored_patterns.rows)
            assert patterns.current.queries.source == "redis"
            assert not patterns.is_loading

    asyncio.run(test())


def test_a_replica_is_loaded_again_after_the_server_lost_rows(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    stored_patterns = PatternRows(redis)
    rows = many_rows(40)
    stored_patterns.put(dict(rows))

    async def test() -> None:
        async with following(redis_url) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            before = patterns.current
            # A restart from an older state breaks every connection and leaves fewer rows.
            redis.flushall()
            deploy(redis)
            fewer = PatternRows(redis)
            fewer.put(dict(list(rows.items())[:15]))
            redis.client_kill_filter(_type="normal", skipme=True)
            await wait_for_condition(lambda: patterns.current is not before and answers_from_replica(patterns))
            assert await scan_ids_at_end(patterns, fewer) == set(list(rows)[:15])

    asyncio.run(test())


def test_the_replica_excludes_elapsed_rows(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    stored_patterns = PatternRows(redis)
    stored_patterns.put(dict(many_rows(100)))

    async def test() -> None:
        async with following(redis_url) as patterns:
            await wait_for_condition(lambda: answers_from_replica(patterns))
            queries = patterns.current.queries
            before = await queries.page(Query(now=NOW - 0.001))
            after = await queries.page(Query(now=NOW))
            assert (before.total, after.total) == (100, 98)
            state = queries.state(NOW)
            assert state is not None
            assert state == queries.state(NOW + 1)
            assert state != queries.state(NOW - 1)

    asyncio.run(test())


@pytest.mark.parametrize("max_rows", [100_000, 0])
def test_rows_of_added_partitions_are_answered_from_memory_and_from_redis(
    redis: Redis, redis_url: str, max_rows: int
) -> None:
    deploy(redis)
    rows = list(many_rows(7).values())[1:]
    stored = PatternRows(redis)
    stored.put({row.id: row for row in rows[:3]})

    async def test() -> None:
        listener = CommitRecorder()
        async with following(redis_url, max_rows, listener) as patterns:
            await wait_for_condition(lambda: patterns.current.queries.source == ("replica" if max_rows else "redis"))
            await wait_for_condition(lambda: patterns.current.positions == stored.positions)
            queries, builds = patterns.current.queries, len(listener.builds)
            added = SegmentWriter(redis, ActivePatterns(), "market-4")
            await asyncio.to_thread(added.put, {row.id: row for row in rows[3:5]})
            await asyncio.to_thread(store_partitions, redis, Partitions(5, len(LOGS)))
            await wait_for_condition(lambda: patterns.current.positions.get("market-4") == 2)
            await asyncio.to_thread(added.put, {rows[5].id: rows[5]})
            await wait_for_condition(lambda: patterns.current.positions["market-4"] == 3)
            page = await patterns.current.queries.page(ALL_PATTERNS._replace(now=NOW))
            assert page.total == len(rows)
            assert {result.row.id: result.log for result in page.rows if result.log == "market-4"} == {
                row.id: "market-4" for row in rows[3:]
            }
            assert (patterns.current.queries is queries) == bool(max_rows)
            assert [commit.log for commit in listener.commits if commit.log == "market-4"] == ["market-4"] * 2
            assert len(listener.builds) == builds

    asyncio.run(test())
