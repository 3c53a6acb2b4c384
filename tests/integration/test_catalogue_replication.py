"""The catalogue replicas of an API process on a real Valkey: loading, changes, gaps, switches and the size limit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event

import pytest
from redis import Redis

from infra.read_models.keys import SegmentKeys
from infra.read_models.row_queries import RedisRowQueries
from infra.read_models.versions import change_versions
from infra.redis.connections import connect_async
from infra.serving import replicas
from infra.serving.changes_follower import ChangesFollower
from infra.serving.freshness import RedisFreshness
from infra.serving.replicas import ReplicatedReadModel
from projections.ports import Segment
from projections.symbols import SymbolRow, Symbols
from projections.versions import Build
from readapi.replica.replica import Replica
from tests.catalogue import symbol_row
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter
from tests.tasks import cancel_and_wait, wait_for_condition

LOG = "market-0"
SECOND = Build(1, 2)


def deploy(redis: Redis) -> None:
    change_versions(redis, "symbols", lambda versions: versions.deployed(1))


def symbol_rows(count: int, first: int = 0) -> dict[str, SymbolRow]:
    return {f"S{number}": symbol_row(f"S{number}", sector="Energy") for number in range(first, first + count)}


@asynccontextmanager
async def following(url: str, max_rows: int = 100_000) -> AsyncIterator[tuple[ReplicatedReadModel, list[object]]]:
    """Follow the symbols. Yield the read model and the table after each of its moves."""
    tables: list[object] = []
    async with connect_async(url) as client:
        projection = Symbols()
        symbols = ReplicatedReadModel(
            projection, [LOG], lambda build, logs: RedisRowQueries(client, projection, build, logs), max_rows
        )
        symbols.add_move_listener(lambda: tables.append(symbols.current.queries))
        task = asyncio.create_task(ChangesFollower(client, [symbols], RedisFreshness()).run())
        try:
            yield symbols, tables
            assert not task.done(), task.exception()
        finally:
            await cancel_and_wait(task)


def known_symbols(symbols: ReplicatedReadModel) -> set[str] | None:
    """Return the symbols in the replica, or None while no replica is loaded."""
    table = symbols.current.queries
    return {result.key for result in table.rows()} if isinstance(table, Replica) else None


def test_the_catalogue_is_empty_before_the_first_build_and_unloaded_until_it_is_complete(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PAGE_ROWS", 10)

    async def test() -> None:
        async with following(redis_url) as (symbols, tables):
            assert known_symbols(symbols) is None
            await wait_for_condition(lambda: known_symbols(symbols) == set())
            tables.clear()
            writer = SegmentWriter(redis, Symbols(), LOG)
            await asyncio.to_thread(writer.put, symbol_rows(1_000))
            await asyncio.to_thread(deploy, redis)
            await wait_for_condition(lambda: known_symbols(symbols))
            assert known_symbols(symbols) == set(symbol_rows(1_000))
            assert {len(table) for table in tables if isinstance(table, Replica)} == {1_000}
            assert any(isinstance(table, RedisRowQueries) for table in tables)
            await asyncio.to_thread(writer.put, {"S0": None, **symbol_rows(1, 1_000)})
            await wait_for_condition(lambda: known_symbols(symbols) == set(symbol_rows(1_000, 1)))

    asyncio.run(test())


def test_changes_during_the_load_are_known_after_the_load(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PAGE_ROWS", 10)
    deploy(redis)
    writer = SegmentWriter(redis, Symbols(), LOG)
    writer.put(symbol_rows(2_000))
    loaded = Event()

    def change() -> int:
        number = 0
        while not loaded.is_set():
            writer.put({**dict.fromkeys(symbol_rows(5, number * 5)), **symbol_rows(5, 10_000 + number * 5)})
            number += 1
        return number

    async def test() -> None:
        async with following(redis_url) as (symbols, _):
            await wait_for_condition(lambda: symbols.is_loading)
            changing = asyncio.create_task(asyncio.to_thread(change))
            await wait_for_condition(lambda: known_symbols(symbols))
            loaded.set()
            assert await changing > 0
            await wait_for_condition(lambda: known_symbols(symbols) == set(writer.rows))

    asyncio.run(test())


def test_a_missing_commit_unloads_the_catalogue_until_it_is_loaded_again(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    writer = SegmentWriter(redis, Symbols(), LOG)
    writer.put(symbol_rows(100))
    keys = SegmentKeys(Segment("symbols", FIRST_BUILD, LOG))

    async def test() -> None:
        async with following(redis_url) as (symbols, tables):
            await wait_for_condition(lambda: known_symbols(symbols))
            tables.clear()
            redis.hincrby(keys.state, "changes", 1)  # a commit that the follower does not read
            await asyncio.to_thread(writer.put, symbol_rows(1, 500))
            await wait_for_condition(lambda: known_symbols(symbols) == set(writer.rows))
            assert isinstance(tables[0], RedisRowQueries)
            assert not any(len(table) == 100 for table in tables if isinstance(table, Replica))

    asyncio.run(test())


def test_the_former_build_answers_after_a_switch_until_the_new_build_is_loaded(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PAGE_ROWS", 10)
    deploy(redis)
    SegmentWriter(redis, Symbols(), LOG).put(symbol_rows(10))
    SegmentWriter(redis, Symbols(), LOG, SECOND).put(symbol_rows(1_000))

    async def test() -> None:
        async with following(redis_url) as (symbols, tables):
            await wait_for_condition(lambda: known_symbols(symbols))
            tables.clear()
            change_versions(redis, "symbols", lambda versions: versions.replayed(1, held=False, throttle=0))
            change_versions(redis, "symbols", lambda versions: versions.switched(SECOND))
            await wait_for_condition(lambda: symbols.current.build == SECOND)
            assert {len(table) for table in tables if isinstance(table, Replica)} <= {10, 1_000}
            assert not any(isinstance(table, RedisRowQueries) for table in tables)

    asyncio.run(test())


def test_a_catalogue_over_the_size_limit_is_unloaded(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "RETRY_SECONDS", 0.05)
    deploy(redis)
    writer = SegmentWriter(redis, Symbols(), LOG)
    writer.put(symbol_rows(50))

    async def test() -> None:
        async with following(redis_url, max_rows=50) as (symbols, _):
            await wait_for_condition(lambda: known_symbols(symbols))
            await asyncio.to_thread(writer.put, symbol_rows(1, 50))
            await wait_for_condition(lambda: known_symbols(symbols) is None)
            await asyncio.to_thread(writer.put, {"S0": None})
            await wait_for_condition(lambda: known_symbols(symbols) == set(writer.rows))

    asyncio.run(test())
