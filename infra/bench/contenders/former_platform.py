"""The contender ``before``: the method that the platform used before TickView.

Sorted sets contain the ids of patterns by confidence, symbol, type and time, and a hash contains each pattern. A scan
reads only the sorted set by confidence, fetches each pattern in a separate round trip, and filters and sorts in
Python. The platform stored JSON. This contender stores the documents of TickView and parses them with orjson, which is
faster.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from hashlib import sha256
from itertools import islice
from typing import Any

import falcon
import orjson
from falcon.asgi import App, Request, Response
from redis import Redis

from infra.bench.contenders.web_app import serve_application
from projections.base import decode_row, encode_row
from projections.patterns import ActivePatterns, PatternRow
from projections.queries import ResultRow

CACHE_SECONDS = 30
"""Seconds for which an answer is cached."""

COMPACT = ActivePatterns.views["compact"]

PREFIX = "before:"
"""Prefix of all keys."""


def fill(client: Redis, rows: Iterator[ResultRow[PatternRow]]) -> None:
    """Store rows."""
    while batch := list(islice(rows, 1_000)):
        with client.pipeline(transaction=False) as pipeline:
            for row, _, position, _ in batch:
                pipeline.hset(f"{PREFIX}pattern:{row.id}", "data", encode_row(row, position))
                pipeline.zadd(f"{PREFIX}confidence", {row.id: row.confidence})
                pipeline.zadd(f"{PREFIX}symbol:{row.symbol}", {row.id: row.confidence})
                pipeline.zadd(f"{PREFIX}type:{row.pattern}", {row.id: row.confidence})
                pipeline.zadd(f"{PREFIX}time", {row.id: row.detected_at})
            pipeline.execute()


class FormerScanResource:
    """The scan, with the parameters that the benchmark uses."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def on_get(self, req: Request, resp: Response) -> None:
        """Answer from the cache, or compute and cache the answer."""
        parameters = {name: value for name, value in req.params.items() if isinstance(value, str)}
        key = f"{PREFIX}cache:{sha256(orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS)).hexdigest()}"
        answer: Any = self._client.get(key)
        if answer is None:
            answer = orjson.dumps(self._scan(parameters, time.time()))
            self._client.set(key, answer, ex=CACHE_SECONDS)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = answer

    def _scan(self, parameters: Mapping[str, str], now: float) -> dict[str, Any]:
        lowest = float(parameters.get("confidence_min", "0.5"))
        matching: list[PatternRow] = []
        keys: Any = self._client.zrevrangebyscore(f"{PREFIX}confidence", "+inf", lowest)
        for key in keys:
            document: Any = self._client.hget(f"{PREFIX}pattern:{key.decode()}", "data")
            if document is not None and _matches(row := decode_row(PatternRow, document).row, parameters, now):
                matching.append(row)
        by_strength = parameters.get("sort_by") == "rs"
        matching.sort(key=lambda row: (row.relative_strength if by_strength else row.confidence, row.id), reverse=True)
        page, size = int(parameters.get("page", "1")), int(parameters.get("per_page", "30"))
        page_rows = matching[(page - 1) * size : page * size]
        return {
            "patterns": [COMPACT.render(ResultRow(row, "", 0, row.id), now) for row in page_rows],
            "pagination": {"page": page, "per_page": size, "total": len(matching), "pages": -(-len(matching) // size)},
            "performance": {"api_response_time_ms": round((time.time() - now) * 1_000, 3), "source": "before"},
        }


def _matches(row: PatternRow, parameters: Mapping[str, str], now: float) -> bool:
    low, high = map(float, parameters.get("rsi_range", "-inf,inf").split(","))
    return (
        (row.expires_at is None or row.expires_at > now)
        and ("symbols" not in parameters or row.symbol in parameters["symbols"].split(","))
        and ("pattern_types" not in parameters or row.pattern in parameters["pattern_types"].split(","))
        and (row.relative_strength or 0) >= float(parameters.get("rs_min", "-inf"))
        and (row.relative_volume or 0) >= float(parameters.get("vol_min", "-inf"))
        and low <= (row.rsi or 0) <= high
    )


class FormerHealthResource:
    """The health check."""

    async def on_get(self, _req: Request, _resp: Response) -> None:
        """Answer with status 200."""


def create_app(client: Redis) -> App[Request, Response]:
    """Return the ASGI application."""
    app = App()
    app.add_route("/api/health", FormerHealthResource())
    app.add_route("/api/patterns/scan", FormerScanResource(client))
    return app


if __name__ == "__main__":
    serve_application(int(sys.argv[1]), create_app(Redis.from_url(sys.argv[2])))
