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

from infra.embedded.tcp_ports import find_free_port
from infra.redis.connections import CONNECTION_ERRORS, CONNECTIONS
from infra.serving.server import run_server
from infra.settings import Settings
from projections.base import LOWEST, encode_row
from projections.patterns import PatternRow
from projections.queries import Page, PatternQuery, PatternSort, PatternStatistics, ResultRow, read_result

SORT_FIELDS: dict[PatternSort, str] = {
    "confidence": "confidence",
    "detected_at": "detected_at",
    "symbol": "symbol",
    "rs": "relative_strength",
    "volume": "relative_volume",
}

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
        "log": result.log,
        "document": encode_row(row, result.position),
    }
    return fields if row.expires_at is None else {**fields, "expires_at": row.expires_at}


class RedisearchPatternQueries:
    """The scan with numbered pages. Rows with equal sort values have no order, because there is only one sort field."""

    source = "redisearch"

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, timeout=60, protocol=2)
        self._client = AsyncRedis.from_pool(pool)

    def state(self, now: float) -> None:
        """Return None: the state is not known without a query."""

    async def scan(self, query: PatternQuery) -> Page[PatternRow]:
        """Return a page of the scan without a cursor."""
        if query.symbols is not None and not query.symbols:
            return Page([], 0, None)
        total, *reply = await self._client.execute_command(
            *("FT.SEARCH", "patterns", _search_query(query)),
            *("SORTBY", SORT_FIELDS[query.sort_by], "DESC" if query.descending else "ASC"),
            *("LIMIT", query.offset, query.limit, "RETURN", 2, "log", "document"),
            *("TIMEOUT", SEARCH_TIMEOUT_MILLISECONDS, "DIALECT", 2),
        )
        return Page([_result_row(fields) for fields in reply[1::2]], total, None)

    async def get(self, pattern_id: str, now: float) -> ResultRow[PatternRow] | None:
        """Raise NotImplementedError: the benchmark does not measure this query."""
        raise NotImplementedError

    async def statistics(self, now: float) -> PatternStatistics:
        """Raise NotImplementedError: the benchmark does not measure this query."""
        raise NotImplementedError


def _search_query(query: PatternQuery) -> str:
    """Return the filters. Excluding expired patterns is cheaper than searching for all others."""
    terms = [f"@confidence:[{query.confidence_min!r} +inf]", f"-@expires_at:[-inf {query.now!r}]"]
    for name, values in (("symbol", query.symbols), ("pattern", query.pattern_types), ("tier", query.tiers)):
        if values:
            terms.append(f"@{name}:{{{'|'.join(map(_escape, values))}}}")
    for name, lowest in (("relative_strength", query.rs_min), ("relative_volume", query.vol_min)):
        if lowest is not None:
            terms.append(f"@{name}:[{lowest!r} +inf]")
    if query.rsi_range is not None:
        terms.append("@rsi:[{!r} {!r}]".format(*query.rsi_range))
    return " ".join(terms)


def _escape(tag: str) -> str:
    return re.sub(r"(\W)", r"\\\1", tag)


def _result_row(fields: list[bytes]) -> ResultRow[PatternRow]:
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    return read_result(PatternRow, values[b"log"].decode(), values[b"document"])


if __name__ == "__main__":
    run_server(Settings(), lambda _client, _build, _logs: RedisearchPatternQueries(sys.argv[1]))
