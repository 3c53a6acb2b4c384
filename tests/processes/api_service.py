"""The API as real processes on a real server: contexts that run it, and the messages and requests of tests."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import httpx
import psutil

from tests.plain_http import PLAIN_HTTP
from tests.processes.roles import running_role, wait_until
from tests.tcp_ports import free_port

TIMEOUT_SECONDS = 30.0
"""Seconds for which a client waits for a response."""

LIMITS = httpx.Limits(keepalive_expiry=60.0)
"""The server keeps idle connections for 75 seconds. A client that closes them sooner, as httpx does after five seconds,
can take a connection in one thread while it closes the connection in another."""


def api_responds(client: httpx.Client) -> bool:
    """Return whether the API accepts connections and responds."""
    try:
        # This path takes the least: the first request for the OpenAPI document makes it, in a quarter of a second.
        return client.get("/api/health/live").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def api(redis_url: str, log: IO[bytes] | None = None, **settings: Any) -> Iterator[httpx.Client]:
    """Run ``tickview serve``. Yield a client of the API."""
    port = free_port()
    with (
        running_role("serve", "--port", str(port), redis_url=redis_url, log=log, **settings) as process,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_SECONDS, limits=LIMITS, verify=PLAIN_HTTP
        ) as client,
    ):
        wait_until(lambda: process.poll() is not None or api_responds(client), "the API answers or ends")
        assert process.poll() is None, "the API ended during its start"
        yield client


@contextmanager
def service(redis_url: str, **settings: Any) -> Iterator[httpx.Client]:
    """Run ``tickview project`` and ``tickview serve``. Yield a client of the API."""
    with running_role("project", redis_url=redis_url, **settings), api(redis_url, **settings) as client:
        yield client


def connections_by_process(port: int) -> Counter[int]:
    """Return the number of open connections of each process that serves the port."""
    return Counter(
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == port and connection.pid
    )


def detection(symbol: str, **fields: Any) -> dict[str, Any]:
    """Build the message that announces a pattern. ``rs``, ``vol`` and ``rsi`` are its indicators."""
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
    """Record messages. Return the header with which a read waits until these messages are folded."""
    response = client.post("/api/events", json=messages)
    assert response.status_code == 201, response.text
    return {"TickView-Min-Position": response.headers["TickView-Position"]}


def read_model_state(client: httpx.Client, name: str) -> dict[str, Any]:
    """Read the state of one read model, as the API reports it."""
    models: list[dict[str, Any]] = client.get("/api/projections").json()["projections"]
    return next(model for model in models if model["name"] == name)


def scan_source(client: httpx.Client) -> str:
    """Scan the patterns. Return the store that answered: ``redis``, ``replica`` or ``archive``."""
    return str(client.get("/api/patterns/scan").json()["performance"]["source"])
