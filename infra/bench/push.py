"""``tickview bench push``: from a producer's message to the sockets of many clients, all roles being processes."""

import multiprocessing
import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple
from urllib.request import urlopen

import orjson
from redis import Redis

from domain.wire import INGEST_STREAM, PATTERNS
from infra.bench.load import PATTERN_TYPES, detections, symbol
from infra.bench.measurement import batches, quantile
from infra.bench.processes import running
from infra.bench.push_clients import Arrived, Transport, run
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder
from infra.processes.errors import StartupError
from infra.settings import Settings
from readapi.push.messages import Message, event_chunk, websocket_frame

OTHER_FILES = 200
"""Open files of a process besides its clients' connections."""

PATHS: dict[Transport, str] = {"websocket": "/ws/patterns", "sse": "/api/patterns/stream"}

WARM_UP_SECONDS = 2.0
"""Of publishing before what counts."""

SETTLE_SECONDS = 2.0
"""How long after the last message is waited for what is still under way."""


class Pushed(NamedTuple):
    """What came of it. Times are from before the XADD to ``tickstock.ingest`` until a client has the change whole."""

    changes_per_second: float
    messages_per_second: float
    message_bytes: float
    """Of a message, on average."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    missing: int
    """Changes times clients that did not come."""
    dropped: int
    closed: int


def check_open_files(connections: int) -> None:
    """Raises StartupError where processes may not open so many connections."""
    needed = connections + OTHER_FILES
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        raise StartupError(
            f"{connections} connections need {needed} open files in each process, and the limit is {soft}: "
            f"raise it with `ulimit -n {needed}`, or ask for fewer --connections"
        )


def fill(client: Redis, settings: Settings, patterns: int, symbols: int) -> None:
    """Record so many active patterns, for the workers to fold."""
    stores = Stores(settings, client, None)
    recorder = open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))
    for part in batches(list(detections(patterns, symbols, time.time())), 1_000):
        recorder.record(list(part))


@contextmanager
def clients(port: int, connections: int, transport: Transport) -> Iterator[Connection]:
    """That many clients, connected; whatever is sent to them ends them, and they answer with what has arrived."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(theirs, port, PATHS[transport], connections, transport))
    process.start()
    theirs.close()
    try:
        if ours.recv() != "ready":
            raise RuntimeError("the clients are not ready")
        yield ours
    except EOFError:
        raise RuntimeError("the clients could not connect") from None
    finally:
        process.terminate()
        process.join()


def measure(client: Redis, port: int, connections: int, transport: Transport, rate: int, seconds: float) -> Pushed:
    """Publish ``rate`` detections a second, each of which concerns every client."""
    with clients(port, connections, transport) as pipe:
        _publish(client, rate, WARM_UP_SECONDS)
        published = _publish(client, rate, seconds)
        time.sleep(SETTLE_SECONDS)
        pipe.send("stop")
        arrived: Arrived = pipe.recv()
    return _pushed(published, arrived, connections, seconds, _dropped(port))


def _publish(client: Redis, rate: int, seconds: float) -> dict[int, float]:
    """Epoch millisecond of each detection, which no two share -> when it was published."""
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


def _pushed(published: dict[int, float], arrived: Arrived, connections: int, seconds: float, dropped: int) -> Pushed:
    times: list[float] = []
    messages = size = 0
    for body, moments in arrived.messages.items():
        sent = [published[millisecond] for one in _DETECTED.findall(body) if (millisecond := int(one)) in published]
        if sent:
            messages += len(moments)
            size += len(moments) * len(body)
            times += [moment - began for began in sent for moment in moments]
    times.sort()
    if not times:
        raise RuntimeError("nothing has arrived")
    return Pushed(
        len(published) / seconds,
        messages / seconds,
        size / messages,
        quantile(times, 0.5) * 1_000,
        quantile(times, 0.99) * 1_000,
        times[-1] * 1_000,
        len(published) * connections - len(times),
        dropped,
        arrived.closed,
    )


def _dropped(port: int) -> int:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        found = re.search(rb"^tickview_push_dropped_total ([0-9.e+]+)$", answer.read(), re.MULTILINE)
    return int(float(found[1])) if found else 0


def measure_limit(port: int, connections: int, transport: Transport, size: int, seconds: float) -> float:
    """Messages a second where the same server sends a constant one of that size to as many clients."""
    frame = {"websocket": websocket_frame, "sse": event_chunk}[transport](Message("changes", None, b"x" * size))
    words = ("infra.bench.push_limit", str(port), str(connections), frame.hex())
    with running(port, words, {}), clients(port, connections, transport) as pipe:
        began = time.time()
        time.sleep(seconds)
        pipe.send("stop")
        arrived: Arrived = pipe.recv()
    within = [moment for moments in arrived.messages.values() for moment in moments if moment < began + seconds]
    return sum(moment >= began for moment in within) / seconds
