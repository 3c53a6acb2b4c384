"""The API as real processes on a real server, for tests."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import httpx

from tests import servers
from tests.processes.roles import running_role, wait_until

TIMEOUT_SECONDS = 30.0


def answers(client: httpx.Client) -> bool:
    """Whether the API does."""
    try:
        return client.get("/openapi.json").status_code in (200, 401)
    except httpx.TransportError:
        return False


@contextmanager
def api(redis_url: str, log: IO[bytes] | None = None, **settings: Any) -> Iterator[httpx.Client]:
    """``tickview serve``, and a client of it."""
    port = servers.free_port()
    with (
        running_role("serve", "--port", str(port), redis_url=redis_url, log=log, **settings),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_SECONDS) as client,
    ):
        wait_until(lambda: answers(client), "the API answers")
        yield client


@contextmanager
def service(redis_url: str, **settings: Any) -> Iterator[httpx.Client]:
    """``tickview project`` and ``tickview serve``, and a client of the latter."""
    with running_role("project", redis_url=redis_url, **settings), api(redis_url, **settings) as client:
        yield client


def detection(symbol: str, **fields: Any) -> dict[str, Any]:
    """A pattern's message; ``rs``, ``vol`` and ``rsi`` are its indicators."""
    now = time.time()
    names = {"rs": "relative_strength", "vol": "relative_volume", "rsi": "rsi"}
    indicators = {name: fields.pop(short) for short, name in names.items() if short in fields}
    data = {
        "symbol": symbol,
        "pattern": "Weekly_Breakout",
        "confidence": 0.8,
        "timestamp": now,
        "expires_at": now + 3_600,
        "source": "daily",
        "indicators": indicators,
        **fields,
    }
    return {"event_type": "pattern_detected", "source": "tests", "timestamp": data["timestamp"], "data": data}


def post(client: httpx.Client, messages: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Record messages; the header with which a read knows them."""
    answer = client.post("/api/events", json=messages)
    assert answer.status_code == 201, answer.text
    return {"TickView-Min-Position": answer.headers["TickView-Position"]}
