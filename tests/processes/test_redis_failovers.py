"""Failovers that Sentinels and clusters decide on: the roles go on with the new primary, and lose no event."""

from pathlib import Path
from typing import Any

import httpx
from redis import Redis

from domain.streams import market_logs
from domain.wire import INGEST_STREAM, PATTERNS
from infra.log.event_log import EventLog
from infra.redis.connections import RedisClient, connect
from tests.clusters import redis_cluster, watched_servers
from tests.processes.api_service import api, detection, post
from tests.processes.roles import running_role, wait_until
from tests.processes.test_health import wait_for_health
from tests.processes.test_recorder import detection as announcement
from tests.processes.test_recorder import payload_of


def record_all(client: httpx.Client, *symbols: str) -> None:
    """Record a detection of each symbol, as soon as the service can. A repeated message is recorded once."""
    messages = [*map(detection, symbols)]
    wait_until(lambda: client.post("/api/events", json=messages).status_code == 201, "the messages are recorded")


def scanned(client: httpx.Client) -> set[str]:
    response = client.get("/api/patterns/scan", params={"per_page": 100})
    return {row["symbol"] for row in response.json()["patterns"]}


def wait_until_every_way_records(client: httpx.Client, redis: RedisClient) -> None:
    """Wait until messages by pub/sub and by the ingest stream are folded. A repeated message is recorded once."""
    redis.xadd(INGEST_STREAM, {"channel": PATTERNS, "payload": payload_of(announcement(1))})

    def are_folded() -> bool:
        redis.publish(PATTERNS, payload_of(announcement(2)))
        return scanned(client) >= {"S1", "S2"}

    wait_until(are_folded, "every way in records on the new primary")


def assert_positions_are_gapless(redis: RedisClient) -> None:
    for log in market_logs(4):
        entries = EventLog(redis, log).read(0, 10_000)
        assert [entry.position for entry in entries] == list(range(1, len(entries) + 1))
        assert len({entry.event_id for entry in entries}) == len(entries)


def test_roles_follow_the_primary_that_sentinels_name(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"lease_seconds": 2}
    with watched_servers(tmp_path) as watched:
        with (
            running_role("record", redis_url=watched.url, **settings),
            running_role("project", redis_url=watched.url, **settings),
            api(watched.url, wait_seconds=30) as client,
            connect(watched.url) as redis,
        ):
            post(client, [detection("BEFORE")])
            wait_for_health(client)
            watched.primary.terminate()
            record_all(client, "AFTER")
            wait_for_health(client)
            wait_until_every_way_records(client, redis)
            wait_until(lambda: scanned(client) == {"BEFORE", "AFTER", "S1", "S2"}, "all events are folded")
            assert_positions_are_gapless(redis)
        with Redis.from_url(watched.replica.connection_url) as replica:
            assert replica.role()[0] == b"master"


def test_roles_follow_the_replica_that_takes_over_in_a_cluster() -> None:
    settings: dict[str, Any] = {"lease_seconds": 2}
    with (
        redis_cluster() as cluster,
        running_role("record", redis_url=cluster.url, **settings),
        running_role("project", redis_url=cluster.url, **settings),
        api(cluster.url, wait_seconds=30) as client,
        connect(cluster.url) as redis,
    ):
        before = {f"BEFORE-{number}" for number in range(20)}
        post(client, [*map(detection, before)])
        wait_for_health(client)
        cluster.servers[0].terminate()
        wait_until(lambda: client.get("/api/health").json()["status"] == "degraded", "health names the lost primary")
        after = {f"AFTER-{number}" for number in range(20)}
        record_all(client, *after)
        wait_for_health(client)
        wait_until_every_way_records(client, redis)
        # The worker may follow the log of one primary sooner than that of another.
        wait_until(lambda: scanned(client) == before | after | {"S1", "S2"}, "all events are folded")
        assert_positions_are_gapless(redis)
