"""The way the platform did it before: one round trip a pattern, and everything else in Python.

Sorted sets of the ids by confidence, symbol, type and time, of which a scan reads the first alone, and one hash a
pattern. What the platform stored as JSON of its own is here a row's document, parsed by orjson, which is in its favour.
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

from infra.bench.contenders.web_app import serve
from projections.base import decode_row, encode_row
from projections.patterns import PatternRow
from projections.queries import ResultRow
from readapi.patterns.rendering import compact

CACHE_SECONDS = 30
PREFIX = "before:"


def fill(client: Redis, rows: Iterator[ResultRow[PatternRow]]) -> None:
    """Store the rows."""
    while part := list(islice(rows, 1_000)):
        with client.pipeline(transaction=False) as pipeline:
            for row, _, position in part:
                pipeline.hset(f"{PREFIX}pattern:{row.id}", "data", encode_row(row, position))
                pipeline.zadd(f"{PREFIX}confidence", {row.id: row.confidence})
                pipeline.zadd(f"{PREFIX}symbol:{row.symbol}", {row.id: row.confidence})
                pipeline.zadd(f"{PREFIX}type:{row.pattern}", {row.id: row.confidence})
                pipeline.zadd(f"{PREFIX}time", {row.id: row.detected_at})
            pipeline.execute()


class Scan:
    """The scan, as far as the benchmark asks for it."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def on_get(self, req: Request, resp: Response) -> None:
        """The answer of the last 30 s to the same parameters, or a new one."""
        asked = {name: value for name, value in req.params.items() if isinstance(value, str)}
        key = f"{PREFIX}cache:{sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()}"
        answer: Any = self._client.get(key)
        if answer is None:
            answer = orjson.dumps(self._scan(asked, time.time()))
            self._client.set(key, answer, ex=CACHE_SECONDS)
        resp.content_type = falcon.MEDIA_JSON
        resp.data = answer

    def _scan(self, asked: Mapping[str, str], now: float) -> dict[str, Any]:
        lowest = float(asked.get("confidence_min", "0.5"))
        found: list[PatternRow] = []
        keys: Any = self._client.zrevrangebyscore(f"{PREFIX}confidence", "+inf", lowest)
        for key in keys:
            document: Any = self._client.hget(f"{PREFIX}pattern:{key.decode()}", "data")
            if document is not None and _matches(row := decode_row(PatternRow, document).row, asked, now):
                found.append(row)
        by_strength = asked.get("sort_by") == "rs"
        found.sort(key=lambda row: (row.relative_strength if by_strength else row.confidence, row.id), reverse=True)
        page, size = int(asked.get("page", "1")), int(asked.get("per_page", "30"))
        shown = found[(page - 1) * size : page * size]
        return {
            "patterns": [compact(row, now) for row in shown],
            "pagination": {"page": page, "per_page": size, "total": len(found), "pages": -(-len(found) // size)},
            "performance": {"api_response_time_ms": round((time.time() - now) * 1_000, 3), "source": "before"},
        }


def _matches(row: PatternRow, asked: Mapping[str, str], now: float) -> bool:
    low, high = map(float, asked.get("rsi_range", "-inf,inf").split(","))
    return (
        (row.expires_at is None or row.expires_at > now)
        and ("symbols" not in asked or row.symbol in asked["symbols"].split(","))
        and ("pattern_types" not in asked or row.pattern in asked["pattern_types"].split(","))
        and (row.relative_strength or 0) >= float(asked.get("rs_min", "-inf"))
        and (row.relative_volume or 0) >= float(asked.get("vol_min", "-inf"))
        and low <= (row.rsi or 0) <= high
    )


class Health:
    """Whether the process is there."""

    async def on_get(self, _req: Request, _resp: Response) -> None:
        """200."""


def create_app(client: Redis) -> App[Request, Response]:
    """The application."""
    app = App()
    app.add_route("/api/health", Health())
    app.add_route("/api/patterns/scan", Scan(client))
    return app


if __name__ == "__main__":
    serve(int(sys.argv[1]), lambda: create_app(Redis.from_url(sys.argv[2])))
