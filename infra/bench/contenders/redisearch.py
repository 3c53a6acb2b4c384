"""The contender ``redisearch``: a hash per pattern and one ``FT.SEARCH`` command per scan."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from redis import Redis
from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

from infra.bench.contenders.measured_scans import serve_scans
from infra.embedded.tcp_ports import find_free_port
from infra.redis.connections import CONNECTION_ERRORS, CONNECTIONS
from projections.base import encode_row
from projections.columns import LOWEST
from projections.patterns import PatternRow
from projections.queries import Equality, Page, Query, ResultRow, read_result

SORTABLE = ("confidence", "detected_at", "relative_strength", "relative_volume")
TAGS = ("symbol", "pattern", "tier")

START_SECONDS = 10
"""Seconds in which the server must start."""

SEARCH_TIMEOUT_MILLISECONDS = 60_000
"""Timeout of a search. The default of 500 ms would return incomplete results."""


@contextmanager
def run_redis_stack(program: str) -> Iterator[str]:
    """Run ``redis-stack-server`` until the context ends. Yield its URL. Raises a Redis error if it does not start."""
    port = find_free_port("127.0.0.1")
    url = f"redis://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory(prefix="tickview-stack-") as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 the user chose the program
        try:
            errors = (*CONNECTION_ERRORS, BusyLoadingError)
            patience = Retry(ConstantBackoff(0.1), START_SECONDS * 10, supported_errors=errors)
            with Redis.from_url(url, retry=patience) as client:
                client.ping()
            yield url
        finally:
            process.terminate()
            process.wait()


def fill(url: str, rows: Iterator[ResultRow[PatternRow]]) -> None:
    """Create the index and store rows. RediSearch indexes a row before its HSET returns."""
    schema = [word for name in TAGS for word in (name, "TAG", *(("SORTABLE",) if name == "symbol" else ()))]
    schema += [word for name in SORTABLE for word in (name, "NUMERIC", "SORTABLE")]
    schema += ["rsi", "NUMERIC", "expires_at", "NUMERIC"]
    with Redis.from_url(url) as client:
        client.execute_command("FT.CREATE", "patterns", "PREFIX", 1, "pattern:", "SCHEMA", *schema)
        while batch := list(islice(rows, 1_000)):
            with client.pipeline(transaction=False) as pipeline:
                for result in batch:
                    pipeline.hset(f"pattern:{result.row.id}", mapping=_fields(result))
                pipeline.execute()


def _fields(result: ResultRow[PatternRow]) -> dict[str, Any]:
    row = result.row
    figures = {"relative_strength": row.relative_strength, "relative_volume": row.relative_volume, "rsi": row.rsi}
    fields = {
        **{name: getattr(row, name) for name in (*TAGS, "confidence", "detected_at")},
        **{name: LOWEST if value is None else value for name, value in figures.items()},
        "id": row.id,
        "log": result.log,
        "document": encode_row(row, result.position),
    }
    return fields if row.expires_at is None else {**fields, "expires_at": row.expires_at}


class RedisearchScans:
    """The scan with numbered pages. Rows with equal sort values have no order, because there is only one sort field."""

    source = "redisearch"

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, timeout=60, protocol=2)
        self._client = AsyncRedis.from_pool(pool)

    async def page(self, query: Query) -> Page[PatternRow]:
        """Return a page of a sorted scan without a cursor."""
        total, *reply = await self._client.execute_command(
            *("FT.SEARCH", "patterns", _search_query(query)),
            *("SORTBY", query.sort_by, "DESC" if query.descending else "ASC"),
            *("LIMIT", query.offset, query.limit, "RETURN", 3, "id", "log", "document"),
            *("TIMEOUT", SEARCH_TIMEOUT_MILLISECONDS, "DIALECT", 2),
        )
        return Page([_result_row(fields) for fields in reply[1::2]], total, None)


def _search_query(query: Query) -> str:
    """Return the filters. Excluding expired patterns is cheaper than searching for all others."""
    terms = [f"-@expires_at:[-inf {query.now!r}]"]
    for each in query.filters:
        if isinstance(each, Equality):
            terms.append(f"@{each.column}:{{{'|'.join(map(_escape, each.values))}}}")
        else:
            terms.append(f"@{each.column}:[{each.lowest!r} {each.highest!r}]")
    return " ".join(terms)


def _escape(tag: str) -> str:
    return re.sub(r"(\W)", r"\\\1", tag)


def _result_row(fields: list[bytes]) -> ResultRow[PatternRow]:
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    return read_result(PatternRow, values[b"log"].decode(), values[b"id"].decode(), values[b"document"])


if __name__ == "__main__":
    serve_scans(RedisearchScans(sys.argv[1]))
