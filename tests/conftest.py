"""Fixtures of all test folders: one real server of each kind per session, and empty databases per test."""

import os
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings
from redis import Redis

from infra.postgres.database import Database
from infra.processes.memory import permanent_objects
from infra.redis.connections import connect
from tests import servers

# The machine may have other work to do. The time that an example takes is therefore no failure.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("any machine"), max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "any machine"))

FOLDER = Path(__file__).parent

UNTRACED = [
    *(FOLDER / name for name in ("chaos", "console", "fuzz", "processes", "simulation")),
    FOLDER / "unit" / "test_linear_cost.py",
    *(FOLDER / "unit").glob("test_demo_*.py"),
]
"""Folders and files of the tests of which the coverage would see little but the tests themselves."""

OLDER_SERVERS = ("redis_7_0", "Redis70", "postgres_15")
"""Parts of the ids of tests that run on an older server. The same tests run on a newer server, too."""

FIRST_WORKER = "gw0"
"""The name that pytest-xdist gives to the first of its processes."""


@contextmanager
def untraced() -> Iterator[None]:
    """Exclude what runs in the context from the coverage, threads that start in it included."""
    tracer, thread_tracer = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        threading.settrace(thread_tracer)  # type: ignore[arg-type]
        sys.settrace(tracer)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the tests and TickView. Every process does so, but only the first one needs to trace it.

    The garbage collector ignores the imported objects: it would visit them again and again, and find nothing.
    """
    is_traced = os.environ.get("PYTEST_XDIST_WORKER", FIRST_WORKER) == FIRST_WORKER
    with permanent_objects(), nullcontext() if is_traced else untraced():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, bool, bool]:
    """Exclude tests from the coverage that would only take longer.

    Property tests run the same branches hundreds of times. Process tests run TickView in processes of its own, which
    the coverage does not see. A test that runs on two servers takes the same branches twice. The tracer makes all code
    slower, that of the tests and of the libraries included.
    """
    # The marker no_cover of pytest-cov has no effect in the processes of pytest-xdist.
    is_property = is_hypothesis_test(getattr(item, "function", None))
    is_repeated = any(server in item.nodeid for server in OLDER_SERVERS)
    is_excluded = is_property or is_repeated or any(item.path.is_relative_to(path) for path in UNTRACED)
    with untraced() if is_excluded else nullcontext():
        return (yield)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """URL of the Valkey 9 of the session."""
    with servers.valkey() as server:
        yield server.connection_url


@pytest.fixture(scope="session")
def redis_7_0_url() -> Iterator[str]:
    """URL of the Redis 7.0 of the session."""
    with servers.redis_7_0() as url:
        yield url


@pytest.fixture
def redis_url(valkey_url: str) -> str:
    """URL of the Valkey of the session, after its data were deleted."""
    with connect(valkey_url) as client:
        client.flushall()
    return valkey_url


@pytest.fixture(scope="module")
def module_redis_url(valkey_url: str) -> str:
    """URL of the Valkey of the session, after its data were deleted before the first test of the module."""
    with connect(valkey_url) as client:
        client.flushall()
    return valkey_url


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """Client of the Valkey of the session, after its data were deleted."""
    with connect(redis_url) as client:
        yield client


@pytest.fixture(params=["valkey_url", "redis_7_0_url"])
def every_redis_url(request: pytest.FixtureRequest) -> str:
    """URL of each supported Redis server of the session."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def every_redis(every_redis_url: str) -> Iterator[Redis]:
    """Client of each supported Redis server of the session."""
    with connect(every_redis_url) as client:
        yield client


@pytest.fixture(scope="session")
def postgres_18_dsn() -> Iterator[str]:
    """DSN of the embedded PostgreSQL of the session."""
    with servers.postgres() as dsn:
        servers.disable_fsync(dsn)
        servers.create_template(dsn)
        yield dsn


@pytest.fixture(scope="session")
def postgres_15_dsn() -> Iterator[str]:
    """DSN of Debian's PostgreSQL 15 of the session. Tests are skipped on a machine without it."""
    if not servers.DEBIAN_POSTGRES_15.exists():
        pytest.skip("Debian's PostgreSQL 15 is not installed")
    with servers.postgres(servers.DEBIAN_POSTGRES_15) as dsn:
        servers.disable_fsync(dsn)
        servers.create_template(dsn)
        yield dsn


@pytest.fixture(params=["postgres_18_dsn", "postgres_15_dsn"])
def every_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Empty database with TickView's schema, once on each version of PostgreSQL."""
    with (
        servers.new_database(request.getfixturevalue(request.param), servers.TEMPLATE) as dsn,
        open_database(dsn) as database,
    ):
        yield database


@pytest.fixture
def database_url(postgres_18_dsn: str) -> Iterator[str]:
    """DSN of an empty database without a schema."""
    with servers.new_database(postgres_18_dsn) as dsn:
        yield dsn


@pytest.fixture
def database(postgres_18_dsn: str) -> Iterator[Database]:
    """Empty database with TickView's schema."""
    with servers.new_database(postgres_18_dsn, servers.TEMPLATE) as dsn, open_database(dsn) as database:
        yield database


@contextmanager
def open_database(dsn: str) -> Iterator[Database]:
    """Open a database with TickView's schema."""
    database = Database(dsn)
    database.check()
    try:
        yield database
    finally:
        database.close()
