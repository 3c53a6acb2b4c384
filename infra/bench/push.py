"""``tickview bench push``: the latency from the message of a producer to the sockets of many clients."""

import multiprocessing
import re
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple
from urllib.request import urlopen

import orjson
from redis import Redis

from domain.wire import INGEST_STREAM, PATTERNS
from infra.bench.detections import PATTERN_TYPES, detections, symbol
from infra.bench.errors import BenchmarkError
from infra.bench.measurement import batches, quantile
from infra.bench.processes import run_module
from infra.bench.push_clients import ReceivedMessages, Transport, run_clients
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder
from infra.processes.errors import StartupError
from infra.settings import Settings
from readapi.push.messages import PushMessage, event_chunk, websocket_frame

RESERVED_FILES = 200
"""Open files that a process needs besides its client connections."""

PATHS: dict[Transport, str] = {"websocket": "/ws/patterns", "sse": "/api/patterns/stream"}

WARM_UP_SECONDS = 2.0
"""Seconds of publishing before the measurement."""

SETTLE_SECONDS = 2.0
"""Seconds between the last published message and the end of the measurement."""


class PushMeasurement(NamedTuple):
    """Rates and latencies of live push.

    A latency is the time from before the XADD to ``tickstock.ingest`` until a client has received the complete change.
    """

    changes_per_second: float
    """Published changes per second."""
    messages_per_second: float
    """Messages per second that all clients together received."""
    message_bytes: float
    """Mean size of a message, in bytes."""
    p50_ms: float
    """Median latency, in milliseconds."""
    p99_ms: float
    """99th percentile of the latency, in milliseconds."""
    max_ms: float
    """Longest latency, in milliseconds."""
    missing: int
    """Number of changes that clients did not receive, summed over all clients."""
    dropped: int
    """Number of clients that the API dropped because they were too slow."""
    closed: int
    """Number of connections that closed before the end."""
    published: dict[int, float]
    """For each published detection, identified by its epoch millisecond, the time before its XADD in epoch seconds."""
    arrivals: dict[int, list[float]]
    """For each published detection the times at which clients received it, in epoch seconds."""


def check_open_files(connections: int) -> None:
    """Check that a process may open this many connections. Raises StartupError otherwise."""
    needed = connections + RESERVED_FILES
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        raise StartupError(
            f"{connections} connections need {needed} open files in each process, but the limit is {soft}. "
            f"Raise it with `ulimit -n {needed}`, or use fewer --connections."
        )


def record_patterns(client: Redis, settings: Settings, patterns: int, symbols: int) -> None:
    """Record active patterns, which the workers fold."""
    stores = Stores(settings, client, None)
    recorder = open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))
    for part in batches(list(detections(patterns, symbols, time.time())), 1_000):
        recorder.record(list(part))


@contextmanager
def connected_clients(port: int, connections: int, transport: Transport) -> Iterator[Connection]:
    """Start a process of clients and connect them.

    Yields:
        A pipe to the process. A message in the pipe ends the clients, and the process answers with ReceivedMessages.
    """
    context = multiprocessing.get_context("spawn")
    pipe, child_pipe = context.Pipe()
    process = context.Process(target=run_clients, args=(child_pipe, port, PATHS[transport], connections, transport))
    process.start()
    child_pipe.close()
    try:
        if pipe.recv() != "ready":
            raise BenchmarkError("The clients are not ready.")
        yield pipe
    except EOFError:
        raise BenchmarkError("The clients could not connect.") from None
    finally:
        process.terminate()
        process.join()


def measure(
    client: Redis, port: int, connections: int, transport: Transport, rate: int, seconds: float
) -> PushMeasurement:
    """Publish detections and measure their latency to all clients.

    Args:
        client: The client of the Redis server.
        port: The port of the API.
        connections: Number of clients.
        transport: The transport of the clients.
        rate: Detections per second, each of which is pushed to every client.
        seconds: Duration of the measurement, in seconds.
    """
    with connected_clients(port, connections, transport) as pipe:
        _publish(client, rate, WARM_UP_SECONDS)
        published = _publish(client, rate, seconds)
        time.sleep(SETTLE_SECONDS)
        pipe.send("stop")
        received: ReceivedMessages = pipe.recv()
    return _summarize(published, received, connections, seconds, _read_dropped(port))


def _publish(client: Redis, rate: int, seconds: float) -> dict[int, float]:
    """Publish detections. Return the unique epoch millisecond of each detection -> the time of its publication."""
    begin = time.time()
    published = {}
    for number in range(int(rate * seconds)):
        due = begin + number / rate
        time.sleep(max(0.0, due - time.time()))
        millisecond = int(begin * 1_000) + number
        payload = _detection(number, millisecond / 1_000)
        published[millisecond] = time.time()
        client.xadd(INGEST_STREAM, {"channel": PATTERNS, "payload": payload})
    return published


def _detection(number: int, detected_at: float) -> bytes:
    data = {
        "symbol": symbol(number),
        "pattern": PATTERN_TYPES[number % len(PATTERN_TYPES)],
        "confidence": 0.9,
        "current_price": 123.45,
        "price_change": 1.5,
        "timestamp": detected_at,
        "expires_at": detected_at + 86_400,
        "indicators": {"relative_strength": 1.4, "relative_volume": 2.1, "rsi": 55.0},
        "source": "daily",
    }
    return orjson.dumps({"event_type": "pattern_detected", "source": "bench", "timestamp": detected_at, "data": data})


_DETECTED = re.compile(rb'"id":"[A-Z]+:\w+:daily:([0-9]+)"')


def _summarize(
    published: dict[int, float], received: ReceivedMessages, connections: int, seconds: float, dropped: int
) -> PushMeasurement:
    arrivals: defaultdict[int, list[float]] = defaultdict(list)
    messages = size = 0
    for body, moments in received.messages.items():
        sent = [millisecond for digits in _DETECTED.findall(body) if (millisecond := int(digits)) in published]
        if sent:
            messages += len(moments)
            size += len(moments) * len(body)
        for millisecond in sent:
            arrivals[millisecond] += moments
    times = sorted(moment - published[sent] for sent, moments in arrivals.items() for moment in moments)
    if not times:
        raise BenchmarkError("The clients received no change.")
    return PushMeasurement(
        len(published) / seconds,
        messages / seconds,
        size / messages,
        quantile(times, 0.5) * 1_000,
        quantile(times, 0.99) * 1_000,
        times[-1] * 1_000,
        len(published) * connections - len(times),
        dropped,
        received.closed,
        published,
        arrivals,
    )


def _read_dropped(port: int) -> int:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        match = re.search(rb"^tickview_push_dropped_total ([0-9.e+]+)$", answer.read(), re.MULTILINE)
    return int(float(match[1])) if match else 0


def measure_limit(port: int, connections: int, transport: Transport, size: int, seconds: float) -> float:
    """Measure the limit: messages per second when the server sends a constant message of ``size`` bytes."""
    frame = {"websocket": websocket_frame, "sse": event_chunk}[transport](PushMessage("changes", None, b"x" * size))
    words = ("infra.bench.push_limit", str(port), str(connections), frame.hex())
    with run_module(port, words, {}), connected_clients(port, connections, transport) as pipe:
        began = time.time()
        time.sleep(seconds)
        pipe.send("stop")
        received: ReceivedMessages = pipe.recv()
    within = [moment for moments in received.messages.values() for moment in moments if moment < began + seconds]
    return sum(moment >= began for moment in within) / seconds
