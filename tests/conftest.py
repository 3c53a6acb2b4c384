"""Fixtures shared by every tier: a real server for the session, an empty one for each test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings
from redis import Redis

from infra.postgres.database import Database
from infra.redis.connections import connect
from tests import servers

# How fast examples are made and run is the machine's, which may have other work to do.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("any machine"), max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "any machine"))


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


@pytest.fixture(scope="session")
def postgres_18_dsn() -> Iterator[str]:
    """The session's embedded PostgreSQL."""
    with servers.postgres() as dsn:
        servers.stop_syncing(dsn)
        servers.make_template(dsn)
        yield dsn


@pytest.fixture(scope="session")
def postgres_15_dsn() -> Iterator[str]:
    """The session's PostgreSQL 15 of Debian, where it is on the machine."""
    if not servers.DEBIANS_POSTGRES.exists():
        pytest.skip("Debian's PostgreSQL 15 is not on this machine")
    with servers.postgres(servers.DEBIANS_POSTGRES) as dsn:
        servers.stop_syncing(dsn)
        servers.make_template(dsn)
        yield dsn


@pytest.fixture(params=["postgres_18_dsn", "postgres_15_dsn"])
def each_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database with our schema, on each PostgreSQL there is."""
    with servers.new_database(request.getfixturevalue(request.param), servers.TEMPLATE) as dsn, opened(dsn) as database:
        yield database


@pytest.fixture
def database_url(postgres_18_dsn: str) -> Iterator[str]:
    """An empty database on the session's PostgreSQL."""
    with servers.new_database(postgres_18_dsn) as dsn:
        yield dsn


@pytest.fixture
def database(postgres_18_dsn: str) -> Iterator[Database]:
    """An empty database with our schema."""
    with servers.new_database(postgres_18_dsn, servers.TEMPLATE) as dsn, opened(dsn) as database:
        yield database


@contextmanager
def opened(dsn: str) -> Iterator[Database]:
    """The database with our schema."""
    database = Database(dsn)
    database.check()
    try:
        yield database
    finally:
        database.close()
