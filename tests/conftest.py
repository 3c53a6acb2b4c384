"""Fixtures shared by every tier: a real server for the session, an empty one for each test."""

from collections.abc import Iterator

import pytest
from redis import Redis

from infra.connections import connect
from tests import servers


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The session's Valkey 9."""
    with servers.valkey() as server:
        yield server.connection_url


@pytest.fixture(scope="session")
def redis_7_0_url() -> Iterator[str]:
    """The session's Redis 7.0."""
    with servers.redis_7_0() as url:
        yield url


@pytest.fixture
def redis_url(valkey_url: str) -> str:
    """The session's Valkey, emptied."""
    with connect(valkey_url) as client:
        client.flushall()
    return valkey_url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of the session's Valkey, emptied."""
    with connect(redis_url) as client:
        yield client
