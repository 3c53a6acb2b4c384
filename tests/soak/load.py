"""The load of a soak: events on two ways at a steady rate, scans, and clients of live push."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from threading import Event, Thread
from typing import Any

import httpx
from redis import Redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.plain_http import PLAIN_HTTP

CHANNEL = "tickstock.events.patterns"
STREAM = "tickstock.ingest"

SYMBOLS = 500
LIFE_SECONDS = 60.0
"""Seconds until a pattern ends, so that the number of rows stays bounded."""

INTERVAL_SECONDS = 0.1
"""Seconds between two batches of a producer."""

SCAN_SECONDS = 0.05
"""Seconds between two scans."""

PUSH_CLIENTS = 10


@dataclass
class Totals:
    """What the load has done so far."""

    posted: int = 0
    added: int = 0
    refused: int = 0
    """Batches that the API refused because its intake was full. They were sent again."""
    pushed: int = 0


class Scanner:
    """Scans, and measures the scans, in a process of its own: the threads of the load would delay the measurement.

    Args:
        api_url: The address of the API.
    """

    def __init__(self, api_url: str) -> None:
        context = get_context("spawn")
        self._stop = context.Event()
        self._scans = context.Value("l", 0)
        self._slowest = context.Value("d", 0.0)
        arguments = (api_url, self._stop, self._scans, self._slowest)
        self._process = context.Process(target=_scan, args=arguments, daemon=True)

    @property
    def scans(self) -> int:
        """The number of scans so far."""
        return self._scans.value

    def take_slowest(self) -> float:
        """Return the seconds of the slowest scan since the last call."""
        with self._slowest.get_lock():
            slowest, self._slowest.value = self._slowest.value, 0.0
        return slowest

    @contextmanager
    def running(self) -> Iterator[None]:
        """Scan until the context ends. Raise AssertionError if a scan has failed."""
        self._process.start()
        try:
            yield
        finally:
            self._stop.set()
            self._process.join()
        assert self._process.exitcode == 0, "a scan failed"


def _scan(api_url: str, stop: Any, scans: Any, slowest: Any) -> None:
    with httpx.Client(base_url=api_url, timeout=30, verify=PLAIN_HTTP) as client:
        while not stop.wait(SCAN_SECONDS):
            began = time.monotonic()
            parameters = {"confidence_min": scans.value % 100 / 100, "per_page": 50}
            assert client.get("/api/patterns/scan", params=parameters).status_code == 200
            scans.value += 1
            with slowest.get_lock():
                slowest.value = max(slowest.value, time.monotonic() - began)


class Load:
    """A load whose rate can change.

    Args:
        api_url: The address of the API.
        redis_url: The address of Redis.
        rate: Events per second on each of the two ways.
    """

    def __init__(self, api_url: str, redis_url: str, rate: int) -> None:
        self.rate = rate
        self.totals = Totals()
        self._api_url = api_url
        self._redis_url = redis_url
        self.scanner = Scanner(api_url)
        self._stop = Event()
        self._numbers = {"http": 0, "stream": 0}

    def _messages(self, way: str) -> list[str]:
        count = max(1, round(self.rate * INTERVAL_SECONDS))
        first = self._numbers[way]
        self._numbers[way] += count
        return [_message(f"{way}-{number}", number) for number in range(first, first + count)]

    def _pace(self, work: Callable[[], None], seconds: float) -> None:
        """Do the work in every interval. If it takes longer, the next begins at once: the sender is slowed down."""
        while not self._stop.is_set():
            began = time.monotonic()
            work()
            self._stop.wait(max(0.0, seconds - (time.monotonic() - began)))

    def _post(self) -> None:
        with httpx.Client(base_url=self._api_url, timeout=30, verify=PLAIN_HTTP) as client:

            def post() -> None:
                messages = self._messages("http")
                body = "[" + ",".join(messages) + "]"
                while True:
                    status = client.post(
                        "/api/events", content=body, headers={"Content-Type": "application/json"}
                    ).status_code
                    if status != 503:
                        assert status == 201, status
                        self.totals.posted += len(messages)
                        return
                    self.totals.refused += 1
                    if self._stop.wait(INTERVAL_SECONDS):
                        return

            self._pace(post, INTERVAL_SECONDS)

    def _add(self) -> None:
        with Redis.from_url(self._redis_url) as client:

            def add() -> None:
                messages = self._messages("stream")
                with client.pipeline(transaction=False) as pipeline:
                    for message in messages:
                        pipeline.xadd(STREAM, {"channel": CHANNEL, "payload": message})
                    pipeline.execute()
                self.totals.added += len(messages)

            self._pace(add, INTERVAL_SECONDS)

    def _listen(self) -> None:
        url = self._api_url.replace("http://", "ws://") + "/ws"
        while not self._stop.is_set():
            with suppress(ConnectionClosed, OSError), connect(url, max_size=None) as connection:
                while not self._stop.is_set():
                    with suppress(TimeoutError):
                        connection.recv(timeout=1)
                        self.totals.pushed += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the load until the context ends."""
        works = [self._post, self._add, *[self._listen] * PUSH_CLIENTS]
        threads = [Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        try:
            with self.scanner.running():
                yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


def _message(identity: str, number: int) -> str:
    now = time.time()
    data = {
        "symbol": f"S{number % SYMBOLS}",
        "pattern": "Doji",
        "confidence": number % 101 / 100,
        "detected_at": now + number % 1_000 / 1_000_000,
        "expires_at": now + LIFE_SECONDS,
        "source": "daily",
    }
    return json.dumps({"event_id": identity, "event_type": "pattern_detected", "timestamp": now, "data": data})
