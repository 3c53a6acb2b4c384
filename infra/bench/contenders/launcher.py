"""Starts the contenders on the same patterns, each as one process that answers HTTP."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from psycopg import connect
from redis import Redis

from infra.bench.contenders import before, postgres_table, redisearch
from infra.bench.processes import running, serving
from infra.embedded.ports import find_free_port
from infra.log.partitions import log_names
from infra.processes.errors import StartupError
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from projections.base import read_row
from projections.patterns import ActivePatterns, PatternRow
from projections.ports import Segment
from projections.queries import ResultRow

HSCAN_COUNT = 1_000


class Servers(NamedTuple):
    """Where the patterns are, how many, and the ``redis-stack-server``, if one is at hand."""

    client: Redis
    redis_url: str
    postgres_dsn: str
    patterns: int
    redis_stack: str | None = None


class Started(NamedTuple):
    """A contender that answers."""

    name: str
    port: int
    pid: int


def _replica(servers: Servers, port: int) -> AbstractContextManager[int]:
    return serving(servers.redis_url, port, api_processes=1, replica_max_rows=2 * servers.patterns)


def _redis(servers: Servers, port: int) -> AbstractContextManager[int]:
    return serving(servers.redis_url, port, api_processes=1, replica_max_rows=0)


@contextmanager
def _postgres(servers: Servers, port: int) -> Iterator[int]:
    with connect(servers.postgres_dsn, autocommit=True) as connection:
        postgres_table.make(connection, rows(servers.client))
    with _with_other_patterns(servers, port, "postgres", servers.postgres_dsn) as pid:
        yield pid


@contextmanager
def _redisearch(servers: Servers, port: int) -> Iterator[int]:
    if servers.redis_stack is None:
        raise StartupError("redisearch: no redis-stack-server is at hand")
    with redisearch.redis_stack(servers.redis_stack) as url:
        redisearch.fill(url, rows(servers.client))
        with _with_other_patterns(servers, port, "redisearch", url) as pid:
            yield pid


def _with_other_patterns(servers: Servers, port: int, module: str, address: str) -> AbstractContextManager[int]:
    """The API, but for where the patterns are."""
    asked = {"redis_url": servers.redis_url, "port": port, "api_processes": 1, "replica_max_rows": 0}
    words = (f"infra.bench.contenders.{module}", address)
    return running(port, words, {**asked, "log_level": "error"})


@contextmanager
def _before(servers: Servers, port: int) -> Iterator[int]:
    before.fill(servers.client, rows(servers.client))
    with running(port, ("infra.bench.contenders.before", str(port), servers.redis_url), {}) as pid:
        yield pid


def _limit(_servers: Servers, port: int) -> AbstractContextManager[int]:
    return running(port, ("infra.bench.contenders.limit", str(port)), {})


CONTENDERS: dict[str, Callable[[Servers, int], AbstractContextManager[int]]] = {
    "replica": _replica,
    "redis": _redis,
    "postgres": _postgres,
    "redisearch": _redisearch,
    "before": _before,
    "limit": _limit,
}
"""By the name that they give as the source of their answers; the limit gives none."""


@contextmanager
def started(name: str, servers: Servers) -> Iterator[Started]:
    """One of ``CONTENDERS``, answering. Raises StartupError if it does not."""
    port = find_free_port("127.0.0.1")
    with CONTENDERS[name](servers, port) as pid:
        yield Started(name, port, pid)


def rows(client: Redis) -> Iterator[ResultRow[PatternRow]]:
    """The rows of the live build."""
    live = read_versions(client, [ActivePatterns.name])[ActivePatterns.name].live
    if live is None:
        raise RuntimeError("no build is live")
    for log in log_names(client):
        keys = SegmentKeys(Segment(ActivePatterns.name, live, log))
        for _, document in client.hscan_iter(keys.rows, count=HSCAN_COUNT):
            row, position = read_row(PatternRow, document)
            yield ResultRow(row, log, position)
