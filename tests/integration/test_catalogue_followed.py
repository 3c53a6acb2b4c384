"""The catalogue as an API process follows it on a real Valkey: not before it is whole, and not when it is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event

import pytest
from redis import Redis

from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import change_versions
from infra.redis.connections import connect_async
from infra.serving import catalogue, replicas
from infra.serving.catalogue import ReplicatedCatalogueModel
from infra.serving.changes_follower import ChangesFollower
from infra.serving.freshness import RedisFreshness
from projections.ports import Segment
from projections.symbols import SymbolRow, Symbols
from projections.versions import Build
from readapi.catalogue.replicas import SymbolReplica, UnloadedReplica
from tests.catalogue import symbol_row
from tests.read_model import FIRST_BUILD
from tests.segment_writer import SegmentWriter
from tests.tasks import cancel_and_wait, wait_for_condition

LOG = "market-0"
SECOND = Build(1, 2)
Followed = ReplicatedCatalogueModel[SymbolReplica]


def deploy(redis: Redis) -> None:
    change_versions(redis, "symbols", lambda versions: versions.deployed(1))


def some(count: int, first: int = 0) -> dict[str, SymbolRow]:
    return {f"S{number}": symbol_row(f"S{number}", sector="Energy") for number in range(first, first + count)}


@asynccontextmanager
async def following(url: str) -> AsyncIterator[tuple[Followed, list[object]]]:
    """The read model, and what answered each time that it moved."""
    seen: list[object] = []
    async with connect_async(url) as client:
        symbols: Followed = ReplicatedCatalogueModel(Symbols(), [LOG], SymbolReplica)
        symbols.add_move_listener(lambda: seen.append(symbols.current.queries))
        task = asyncio.create_task(ChangesFollower(client, [symbols], RedisFreshness()).run())
        try:
            yield symbols, seen
            assert not task.done(), task.exception()
        finally:
            await cancel_and_wait(task)


def known(symbols: Followed) -> set[str] | None:
    """The symbols that are answered; None while nothing answers."""
    table = symbols.current.queries
    return None if isinstance(table, UnloadedReplica) else set(table.rows)


def test_it_is_empty_before_there_is_a_build_and_then_nothing_answers_until_it_is_whole(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PAGE_ROWS", 10)

    async def test() -> None:
        async with following(redis_url) as (symbols, seen):
            assert known(symbols) is None
            await wait_for_condition(lambda: known(symbols) == set())
            seen.clear()
            writer = SegmentWriter(redis, Symbols(), LOG)
            await asyncio.to_thread(writer.put, some(1_000))
            await asyncio.to_thread(deploy, redis)
            await wait_for_condition(lambda: known(symbols))
            assert known(symbols) == set(some(1_000))
            assert {len(table) for table in seen if isinstance(table, SymbolReplica)} == {1_000}
            assert any(isinstance(table, UnloadedReplica) for table in seen)
            await asyncio.to_thread(writer.put, {"S0": None, **some(1, 1_000)})
            await wait_for_condition(lambda: known(symbols) == set(some(1_000, 1)))

    asyncio.run(test())


def test_what_changes_while_it_is_loaded_is_known_afterwards(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PAGE_ROWS", 10)
    deploy(redis)
    writer = SegmentWriter(redis, Symbols(), LOG)
    writer.put(some(2_000))
    loaded = Event()

    def change() -> int:
        number = 0
        while not loaded.is_set():
            writer.put({**dict.fromkeys(some(5, number * 5)), **some(5, 10_000 + number * 5)})
            number += 1
        return number

    async def test() -> None:
        async with following(redis_url) as (symbols, _):
            await wait_for_condition(lambda: symbols.is_loading)
            changing = asyncio.create_task(asyncio.to_thread(change))
            await wait_for_condition(lambda: known(symbols))
            loaded.set()
            assert await changing > 0
            await wait_for_condition(lambda: known(symbols) == set(writer.rows))

    asyncio.run(test())


def test_when_commits_are_missed_nothing_answers_until_it_is_loaded_anew(redis: Redis, redis_url: str) -> None:
    deploy(redis)
    writer = SegmentWriter(redis, Symbols(), LOG)
    writer.put(some(100))
    keys = SegmentKeys(Segment("symbols", FIRST_BUILD, LOG))

    async def test() -> None:
        async with following(redis_url) as (symbols, seen):
            await wait_for_condition(lambda: known(symbols))
            seen.clear()
            redis.hincrby(keys.state, "changes", 1)  # one that nobody saw
            await asyncio.to_thread(writer.put, some(1, 500))
            await wait_for_condition(lambda: known(symbols) == set(writer.rows))
            assert isinstance(seen[0], UnloadedReplica)
            assert not any(len(table) == 100 for table in seen if isinstance(table, SymbolReplica))

    asyncio.run(test())


def test_after_a_switch_the_former_build_answers_until_the_new_one_is_whole(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "PAGE_ROWS", 10)
    deploy(redis)
    SegmentWriter(redis, Symbols(), LOG).put(some(10))
    SegmentWriter(redis, Symbols(), LOG, SECOND).put(some(1_000))

    async def test() -> None:
        async with following(redis_url) as (symbols, seen):
            await wait_for_condition(lambda: known(symbols))
            seen.clear()
            change_versions(redis, "symbols", lambda versions: versions.replayed(1, held=False, throttle=0))
            change_versions(redis, "symbols", lambda versions: versions.switched(SECOND))
            await wait_for_condition(lambda: symbols.current.build == SECOND)
            assert {len(table) for table in seen if isinstance(table, SymbolReplica)} <= {10, 1_000}
            assert not any(isinstance(table, UnloadedReplica) for table in seen)

    asyncio.run(test())


def test_past_its_bound_nothing_answers(redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "MAX_SYMBOLS", 50)
    monkeypatch.setattr(replicas, "RETRY_SECONDS", 0.05)
    deploy(redis)
    writer = SegmentWriter(redis, Symbols(), LOG)
    writer.put(some(50))

    async def test() -> None:
        async with following(redis_url) as (symbols, _):
            await wait_for_condition(lambda: known(symbols))
            await asyncio.to_thread(writer.put, some(1, 50))
            await wait_for_condition(lambda: known(symbols) is None)
            await asyncio.to_thread(writer.put, {"S0": None})
            await wait_for_condition(lambda: known(symbols) == set(writer.rows))

    asyncio.run(test())
