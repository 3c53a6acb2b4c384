"""Gaps: times in which a recorder did not hear a way in. Redis keeps the latest gaps for health and status."""

from typing import cast

import orjson
from redis import Redis

from readapi.ports.operations import Gap

GAPS_KEY = "tickview:intake:gaps"
"""Redis stream of the gaps. An entry has the field ``gap`` with a JSON document."""

MAX_GAPS = 1_000
"""Highest number of gaps that are kept."""

GAPS_SHOWN = 10
"""Highest number of gaps that health and status show."""


def store_gap(client: Redis, gap: Gap) -> None:
    """Store a gap. Raises RedisError."""
    client.xadd(GAPS_KEY, {"gap": orjson.dumps(gap)}, maxlen=MAX_GAPS)


def read_gaps(client: Redis) -> list[Gap]:
    """Read the latest gaps, the newest first. Raises RedisError."""
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrevrange(GAPS_KEY, count=GAPS_SHOWN))
    return [Gap(**orjson.loads(fields[b"gap"])) for _, fields in entries]
