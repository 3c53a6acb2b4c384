"""The start of the contenders: each serves the same patterns over HTTP, in one process."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from psycopg import connect
from redis import Redis

from infra.bench.contenders import former_platform, postgres_table, redisearch
from infra.bench.errors import BenchmarkError
from infra.bench.processes import run_module, serve_api
from infra.embedded.tcp_ports import find_free_port
from infra.log.partitions import log_names
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from projections.patterns import ActivePatterns, PatternRow
from projections.ports import Segment
from projections.queries import ResultRow, read_result

ROWS_PER_CALL = 1_000
"""Approximate number of rows per HSCAN call."""


class BenchmarkServers(NamedTuple):
    """The servers of a run with ``patterns`` patterns, and the path of ``redis-stack-server`` if it is installed."""

    client: Redis
    redis_url: str
    postgres_dsn: str
    patterns: int
    redis_stack: str | None = None


class RunningContender(NamedTuple):
    """A contender that answers over HTTP."""

    name: str
    port: int
    pid: int


def _replica(servers: BenchmarkServers, port: int) -> AbstractContextManager[int]:
    return serve_api(servers.redis_url, port, api_processes=1, replica_max_rows=2 * servers.patterns)


def _redis(servers: BenchmarkServers, port: int) -> AbstractContextManager[int]:
    return serve_api(servers.redis_url, port, api_processes=1, replica_max_rows=0)


@contextmanager
def _postgres(servers: BenchmarkServers, port: int) -> Iterator[int]:
    with connect(servers.postgres_dsn, autocommit=True) as connection:
        postgres_table.create_table(connection, read_live_rows(servers.client))
    with _serve_store(servers, port, "postgres", servers.postgres_dsn) as pid:
        yield pid


@contextmanager
def _redisearch(servers: BenchmarkServers, port: int) -> Iterator[int]:
    if servers.redis_stack is None:
        raise BenchmarkError("The contender redisearch needs redis-stack-server, which is not installed.")
    with redisearch.run_redis_stack(servers.redis_stack) as url:
        redisearch.fill(url, read_live_rows(servers.client))
        with _serve_store(servers, port, "redisearch", url) as pid:
            yield pid


def _serve_store(servers: BenchmarkServers, port: int, module: str, address: str) -> AbstractContextManager[int]:
    """Serve the API with the patterns of another store."""
    settings = {"redis_url": servers.redis_url, "port": port, "api_processes": 1, "replica_max_rows": 0}
    words = (f"infra.bench.contenders.{module}", address)
    return run_module(port, words, {**settings, "log_level": "error"})


@contextmanager
def _before(servers: BenchmarkServers, port: int) -> Iterator[int]:
    former_platform.fill(servers.client, read_live_rows(servers.client))
    with run_module(port, ("infra.bench.contenders.former_platform", str(port), servers.redis_url), {}) as pid:
        yield pid


def _limit(_servers: BenchmarkServers, port: int) -> AbstractContextManager[int]:
    return run_module(port, ("infra.bench.contenders.limit", str(port)), {})


CONTENDERS: dict[str, Callable[[BenchmarkServers, int], AbstractContextManager[int]]] = {
    "replica": _replica,
    "redis": _redis,
    "postgres": _postgres,
    "redisearch": _redisearch,
    "before": _before,
    "limit": _limit,
}
"""Name -> function that starts the contender. Every contender except the limit names itself as source of an answer."""


@contextmanager
def start_contender(name: str, servers: BenchmarkServers) -> Iterator[RunningContender]:
    """Start a contender. Raises BenchmarkError if it does not start."""
    port = find_free_port("127.0.0.1")
    with CONTENDERS[name](servers, port) as pid:
        yield RunningContender(name, port, pid)


def read_live_rows(client: Redis) -> Iterator[ResultRow[PatternRow]]:
    """Yield the rows of the live build."""
    live = read_versions(client, [ActivePatterns.name])[ActivePatterns.name].live
    if live is None:
        raise BenchmarkError("No build of the read model is live.")
    for log in log_names(client):
        keys = SegmentKeys(Segment(ActivePatterns.name, live, log))
        for key, document in client.hscan_iter(keys.rows, count=ROWS_PER_CALL):
            yield read_result(PatternRow, log, key.decode(), document)
